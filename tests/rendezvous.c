/* Checks the rendezvous by itself: threads play games of random phases with random numbers of tasks, some of which take
 * long. Each task must be done once, no phase may begin before the one before has ended, and what was written in one
 * must be seen in the next.
 *
 *     rendezvous SECONDS [SEED]
 *
 * Exit status 0; 1 with a line that says what went wrong; death by SIGALRM where a game gets stuck.
 */
#define _POSIX_C_SOURCE 200809L
#include "rendezvous.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef STUCK
#define STUCK 20 /* seconds; a game takes milliseconds */
#endif

enum { MIN_THREADS = 2, MAX_THREADS = 16, MAX_PHASES = 100, MAX_TASKS = 40 };

/* Plain variables: it is the rendezvous that keeps the threads apart. */
typedef struct {
    Rendezvous rendezvous;
    Run runs[2 * MAX_THREADS];
    int n_threads, n_runs, n_phases;
    uint64_t seed;
    int phase, count, count_before; /* the phase at hand, its tasks, and those of the one before */
    int done[MAX_TASKS];            /* how often, in this phase */
    uint64_t written[2][MAX_TASKS]; /* in phases of even and of odd number */
} Game;

typedef struct {
    Game *game;
    int thread;
} Player;

static void require(int holds, const char *what, const Game *g, int task) {
    if (holds) return;
    fprintf(stderr, "phase %d, task %d, %d threads: %s\n", g->phase, task, g->n_threads, what);
    _exit(1);
}

/* A number that depends on all of these: SplitMix64. */
static uint64_t mix(uint64_t seed, int a, int b) {
    uint64_t x = seed + 0x9e3779b97f4a7c15 * (((uint64_t)a << 20) + (uint64_t)b + 1);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* Most tasks take no time, some a microsecond, a few longer than the others spin. */
static void pass_time(uint64_t random) {
    if (random % 50 == 0) {
        nanosleep(&(struct timespec){.tv_nsec = (long)(random >> 8) % (4 * PATIENCE)}, NULL);
    } else if (random % 4 == 0) {
        for (uint64_t i = random >> 8 & 127; i; i--) PAUSE();
    }
}

static void do_task(Game *g, int phase, int t) {
    const uint64_t random = mix(~g->seed, phase, t);
    require(g->phase == phase, "the thread is in another phase", g, t);
    require(t < g->count, "no such task", g, t);
    if (g->count_before) {
        const int other = (int)((random >> 32) % (unsigned)g->count_before);
        const uint64_t seen = g->written[(phase + 1) % 2][other];
        require(seen == mix(g->seed, phase - 1, other), "not what the phase before has written", g, t);
    }
    pass_time(random);
    g->written[phase % 2][t] = mix(g->seed, phase, t);
    g->done[t]++;
}

/* What the last thread does while the others wait. */
static void next_phase(Game *g) {
    for (int t = 0; t < g->count; t++) {
        require(g->done[t] != 0, "not done when the phase ended", g, t);
        require(g->done[t] == 1, "done more than once", g, t);
        g->done[t] = 0;
    }
    g->count_before = g->count;
    g->count = (int)(mix(g->seed, ++g->phase, MAX_TASKS) % (MAX_TASKS + 1));
    deal(&g->rendezvous, g->n_runs, g->count);
}

static void *play(void *argument) {
    const Player *player = argument;
    Game *g = player->game;
    for (int phase = 0; phase < g->n_phases; phase++) {
        ptrdiff_t t;
        while ((t = claim(&g->rendezvous, player->thread)) >= 0) do_task(g, phase, (int)t);
        if (arrive(&g->rendezvous, g->n_threads)) {
            next_phase(g);
            release(&g->rendezvous);
        }
    }
    return NULL;
}

/* A game with this number of threads; returns the number of its phases. */
static int play_game(int n_threads, uint64_t seed) {
    static Game game;
    pthread_t threads[MAX_THREADS];
    Player players[MAX_THREADS];
    game = (Game){.n_threads = n_threads, .seed = seed};
    game.n_runs = n_threads + (int)(seed % 3); /* a team may be smaller than was asked for */
    game.n_phases = 1 + (int)(mix(seed, 0, 0) % MAX_PHASES);
    game.count = MAX_TASKS;
    open_rendezvous(&game.rendezvous);
    game.rendezvous.runs = game.runs;
    game.rendezvous.round = -(unsigned)(game.n_phases / 2); /* it wraps around in mid-game */
    deal(&game.rendezvous, game.n_runs, game.count);
    alarm(STUCK);
    for (int i = 0; i < n_threads; i++) {
        players[i] = (Player){&game, i};
        require(pthread_create(&threads[i], NULL, play, &players[i]) == 0, "no thread", &game, i);
    }
    for (int i = 0; i < n_threads; i++) pthread_join(threads[i], NULL);
    require(game.phase == game.n_phases, "the game ended early", &game, 0);
    close_rendezvous(&game.rendezvous);
    return game.n_phases;
}

int main(int n_arguments, char **arguments) {
    if (n_arguments < 2) return 2;
    const int64_t end = nanoseconds() + (int64_t)(1e9 * atof(arguments[1]));
    const int seed = n_arguments > 2 ? atoi(arguments[2]) : 0;
    int n_games = 0, n_phases = 0;
    do { /* all numbers of threads in turn */
        n_phases += play_game(MIN_THREADS + n_games % (MAX_THREADS - MIN_THREADS + 1), mix(0, seed, n_games));
        n_games++;
    } while (nanoseconds() < end);
    printf("%d games, %d phases: each task done once and in its phase\n", n_games, n_phases);
    return 0;
}
