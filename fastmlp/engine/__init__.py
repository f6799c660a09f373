"""The engine: Cython over the C kernels. It lays out memory, cuts a step into tasks, and starts threads.

It imports nothing else of the package, and trusts its arguments but for what could lead out of an array.
"""
