/* Where the threads of a step wait for each other. They spin, and go to sleep when it takes long: OpenMP's barrier
 * spins for milliseconds, and where another process has one of two cores, both threads share the other one, each
 * spinning while the one it waits for cannot run. An epoch then took 7 s, and takes 1.2 s like this; 0.27 s on free
 * cores either way.
 */
#ifndef FASTMLP_RENDEZVOUS_H
#define FASTMLP_RENDEZVOUS_H

#include <pthread.h>

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __asm__ volatile("" ::: "memory")
#endif

#define SPINS 4000 /* some 50 us: more than the phases of a step differ by */

typedef struct {
    int arrived, round, sleepers;
    long next; /* task of a dynamic phase */
    pthread_mutex_t mutex;
    pthread_cond_t released;
} Rendezvous;

static inline void open_rendezvous(Rendezvous *r) {
    r->arrived = r->round = r->sleepers = 0;
    r->next = 0;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->released, NULL);
}

static inline void close_rendezvous(Rendezvous *r) {
    pthread_mutex_destroy(&r->mutex);
    pthread_cond_destroy(&r->released);
}

static inline long claim(Rendezvous *r) { return __atomic_fetch_add(&r->next, 1, __ATOMIC_RELAXED); }

/* Whether this thread is the last one; the others return once it calls release. */
static inline int arrive(Rendezvous *r, int n_threads) {
    const int round = __atomic_load_n(&r->round, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&r->arrived, 1, __ATOMIC_ACQ_REL) == n_threads) return 1;
    for (int spins = 0; spins < SPINS; spins++) {
        if (__atomic_load_n(&r->round, __ATOMIC_ACQUIRE) != round) return 0;
        PAUSE();
    }
    pthread_mutex_lock(&r->mutex);
    __atomic_add_fetch(&r->sleepers, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&r->round, __ATOMIC_SEQ_CST) == round) pthread_cond_wait(&r->released, &r->mutex);
    __atomic_sub_fetch(&r->sleepers, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&r->mutex);
    return 0;
}

static inline void release(Rendezvous *r) {
    r->arrived = 0;
    r->next = 0;
    __atomic_store_n(&r->round, r->round + 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&r->sleepers, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&r->mutex);
        pthread_cond_broadcast(&r->released);
        pthread_mutex_unlock(&r->mutex);
    }
}

#endif
