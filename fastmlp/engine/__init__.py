"""The engine: Cython over the C kernels. It lays out memory, cuts a step into tasks, and starts threads.

It imports nothing of the package but the kernels, and trusts its arguments but for what could lead out of an array.
"""
