/* The control register of the floating-point unit: the one thing here that C cannot say. */
#include "../fastmlp.h"

#if defined(__x86_64__)

#define FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO 0x8040u

void fm_flush_denormals(uint64_t *saved) {
    const unsigned control = __builtin_ia32_stmxcsr();
    *saved = control;
    __builtin_ia32_ldmxcsr(control | FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO);
}

void fm_restore_denormals(const uint64_t *saved) { __builtin_ia32_ldmxcsr((unsigned)*saved); }

#elif defined(__aarch64__)

#define FLUSH_TO_ZERO (UINT64_C(1) << 24)

void fm_flush_denormals(uint64_t *saved) {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    *saved = control;
    __asm__ volatile("msr fpcr, %0" : : "r"(control | FLUSH_TO_ZERO));
}

void fm_restore_denormals(const uint64_t *saved) { __asm__ volatile("msr fpcr, %0" : : "r"(*saved)); }

#else

void fm_flush_denormals(uint64_t *saved) { *saved = 0; }

void fm_restore_denormals(const uint64_t *saved) { (void)saved; }

#endif
