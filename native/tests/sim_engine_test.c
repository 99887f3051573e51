/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated drivers' engine from inside: its schedule, its description reader, and what a killed process leaves behind.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../sim/engine/engine.h"
#include "check.h"

static const char description[] = "node test\n"
                                  "driver_version 1.2\n"
                                  "cuda_version 13000\n"
                                  "launch_ns 10\n"
                                  "block_ns 100\n"
                                  "timeslice_ns 1000\n"
                                  "device 0\n"
                                  "name Test device\n"
                                  "uuid GPU-00000000-0000-5000-8000-000000000000\n"
                                  "vram_bytes 1073741824\n"
                                  "multiprocessors 4\n"
                                  "warp_threads 32\n"
                                  "block_threads_max 1024\n"
                                  "multiprocessor_threads_max 2048\n"
                                  "multiprocessor_blocks_max 32\n";

/* --- The schedule --------------------------------------------------------------------------------------------------------- */

static struct sim_state *blank(uint64_t timeslice_ns)
{
    struct sim_state *state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    state->node.device_count = 1;
    state->node.timeslice_ns = timeslice_ns;
    struct sim_timeline *timeline = &state->devices[0].timeline;
    timeline->current = timeline->running = -1;
    for (int i = 0; i < 2; i++) {
        state->channels[i] = (struct sim_channel){.live = 1, .process = i, .gpu_instance = -1, .compute_instance = -1};
        timeline->members[timeline->member_count++] = (uint16_t)i;
    }
    return state;
}

static void submit(struct sim_state *state, int index, uint64_t submit_ns, uint64_t cost_ns)
{
    struct sim_channel *channel = &state->channels[index];
    uint64_t before = channel->submitted ? channel->ring[channel->submitted % SIM_RING].sum_ns : 0;
    channel->submitted++;
    channel->ring[channel->submitted % SIM_RING] = (struct sim_launch){submit_ns, cost_ns, before + cost_ns, 0};
}

static uint64_t end_of(const struct sim_state *state, int index, uint64_t number)
{
    return state->channels[index].ring[number % SIM_RING].end_ns;
}

static void schedule_in_order(void)
{
    struct sim_state *state = blank(0);
    submit(state, 0, 100, 50);
    submit(state, 1, 110, 10);
    submit(state, 0, 120, 50);
    submit(state, 1, 500, 5);
    sim_timeline_advance(state, &state->devices[0].timeline, 1000);
    CHECK_EQUAL(end_of(state, 0, 1), 150);
    CHECK_EQUAL(end_of(state, 1, 1), 160);
    CHECK_EQUAL(end_of(state, 0, 2), 210);
    CHECK_EQUAL(end_of(state, 1, 2), 505);
    CHECK_EQUAL(state->devices[0].timeline.busy_ns, 115);
    munmap(state, sizeof *state);
}

static void schedule_in_turns(void)
{
    struct sim_state *state = blank(100);
    for (int i = 0; i < 4; i++) {
        submit(state, 0, 0, 100);
        submit(state, 1, 0, 50);
    }
    sim_timeline_advance(state, &state->devices[0].timeline, 10000);
    CHECK_EQUAL(end_of(state, 0, 1), 100);
    CHECK_EQUAL(end_of(state, 1, 2), 200); /* two short ones fill a turn */
    CHECK_EQUAL(end_of(state, 0, 2), 300);
    CHECK_EQUAL(end_of(state, 1, 4), 400);
    CHECK_EQUAL(end_of(state, 0, 4), 600);
    munmap(state, sizeof *state);
}

/* Whoever looks, and however often, decides the same. */
static void schedule_is_a_function_of_submissions(void)
{
    struct sim_state *leap = blank(300), *steps = blank(300);
    uint64_t now_ns = 0;
    uint64_t random = 7;
    for (int i = 0; i < 900; i++) {
        int index = (int)(check_random(&random) >> 60 & 1);
        uint64_t cost_ns = 1 + check_random(&random) % 200;
        now_ns += check_random(&random) % 150;
        submit(leap, index, now_ns, cost_ns);
        sim_timeline_advance(steps, &steps->devices[0].timeline, now_ns);
        submit(steps, index, now_ns, cost_ns);
    }
    for (uint64_t at_ns = now_ns; at_ns < now_ns + 400000; at_ns += 777)
        sim_timeline_advance(steps, &steps->devices[0].timeline, at_ns);
    sim_timeline_advance(leap, &leap->devices[0].timeline, now_ns + 400000);
    for (int index = 0; index < 2; index++) {
        CHECK_EQUAL(leap->channels[index].completed, leap->channels[index].submitted);
        for (uint64_t n = 1; n <= leap->channels[index].submitted; n++)
            CHECK_EQUAL(end_of(steps, index, n), end_of(leap, index, n));
    }
    munmap(leap, sizeof *leap);
    munmap(steps, sizeof *steps);
}

static void dropped_work_is_paid_as_far_as_it_got(void)
{
    struct sim_state *state = blank(100);
    submit(state, 0, 0, 1000);
    submit(state, 0, 0, 1000);
    submit(state, 1, 0, 7);
    sim_timeline_advance(state, &state->devices[0].timeline, 400);
    sim_channel_drop(state, 0, 400);
    sim_timeline_advance(state, &state->devices[0].timeline, 500);
    CHECK_EQUAL(sim_channel_kernel_ns(&state->channels[0]), 400);
    CHECK_EQUAL(end_of(state, 1, 1), 407);
    CHECK_EQUAL(state->devices[0].timeline.busy_ns, 407);
    munmap(state, sizeof *state);
}

/* --- The description -------------------------------------------------------------------------------------------------------- */

static int parse(const char *before, const char *after, char *problem)
{
    static struct sim_node node;
    char text[2048];
    snprintf(text, sizeof text, "%s%s%s", before, description, after);
    problem[0] = 0;
    return sim_description_parse(text, &node, problem, 256);
}

static void descriptions_are_checked(void)
{
    char problem[256];
    CHECK_EQUAL(parse("# a comment\n\n", "profile 1g\nsize 1\ncompute_slices 1\nstarts 0 1 2\n", problem), 0);
    CHECK(parse("", "colour 7\n", problem) < 0 && strstr(problem, "line 16, `colour 7`: unknown key"));
    CHECK(parse("", "vram_bytes lots\n", problem) < 0 && strstr(problem, "not a number"));
    CHECK(parse("", "multiprocessors 4294967296\n", problem) < 0 && strstr(problem, "not a number in range"));
    CHECK(parse("", "reserve_bytes 1073741824\n", problem) < 0 && strstr(problem, "VRAM"));
    CHECK(parse("profile 1g\n", "", problem) < 0 && strstr(problem, "outside of a device"));
    CHECK(parse("kernel x\n", "", problem) < 0 && strstr(problem, "GLOB BLOCK_NS"));
    CHECK(parse("", "profile 1g\nsize 1\n", problem) < 0 && strstr(problem, "lacks"));
    char empty[] = "node x\ncuda_version 1\ndriver_version 1\n";
    static struct sim_node node;
    CHECK(sim_description_parse(empty, &node, problem, sizeof problem) < 0 && strstr(problem, "no device"));
}

/* --- What the dead leave ------------------------------------------------------------------------------------------------------ */

static const struct sim_place whole = {0, -1, -1};

static uint64_t spent(void)
{
    struct sim_state *state = sim_enter();
    sim_process_sweep(state);
    uint64_t bytes = *sim_vram_spent(state, whole);
    sim_leave(state);
    return bytes;
}

/* A child that registers, says so, and then runs `work` until it is killed. */
static pid_t child(void (*work)(int account))
{
    int ready[2];
    char byte = 0;
    if (pipe(ready))
        abort();
    pid_t pid = fork();
    if (!pid) {
        if (sim_process_register() < 0)
            _exit(1);
        int account = sim_account_open(whole);
        sim_account_retain(account);
        if (write(ready[1], &byte, 1) != 1)
            _exit(1);
        for (;;)
            work(account);
    }
    CHECK_EQUAL(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void finish(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status));
}

static void die_under_the_lock(int account)
{
    sim_vram_charge(account, 3, SIM_GRANULE);
    struct sim_state *state = sim_enter();
    *sim_vram_spent(state, whole) += 12345; /* as if it had died before it wrote its account */
    raise(SIGKILL);
}

static void a_dead_lock_holder_is_repaired(void)
{
    pid_t pid = child(die_under_the_lock);
    int status;
    waitpid(pid, &status, 0);
    CHECK_EQUAL(spent(), 0);
    struct sim_state *state = sim_enter();
    CHECK_EQUAL(state->repairs, 1);
    sim_leave(state);
}

static void churn(int account)
{
    for (int i = 0; i < 8; i++)
        sim_vram_charge(account, 1000, SIM_GRANULE);
    sim_launch_try(account, 1000);
    for (int i = 0; i < 8; i++)
        sim_vram_refund(account, 1000, SIM_GRANULE);
}

static void nothing_is_left_of_the_killed(void)
{
    uint64_t random = 11;
    for (int round = 0; round < 40; round++) {
        pid_t pids[3];
        for (int i = 0; i < 3; i++)
            pids[i] = child(churn);
        for (volatile uint64_t spin = check_random(&random) % 100000; spin; spin--) {
        }
        for (int i = 0; i < 3; i++)
            finish(pids[i]);
        CHECK_EQUAL(spent(), 0);
    }
    struct sim_state *state = sim_enter();
    CHECK_EQUAL(state->devices[0].timeline.member_count, 0);
    for (int i = 0; i < SIM_CHANNELS_MAX; i++)
        CHECK_EQUAL(state->channels[i].live, 0);
    sim_leave(state);
}

int main(void)
{
    check_run(schedule_in_order, "without time slices kernels run strictly in order of submission, one at a time");
    check_run(schedule_in_turns, "with time slices processes take turns of equal time");
    check_run(schedule_is_a_function_of_submissions, "the schedule does not depend on who looks at it, or when");
    check_run(dropped_work_is_paid_as_far_as_it_got, "a dead process's queue is dropped and its running kernel counted up to then");
    check_run(descriptions_are_checked, "a bad description is refused with its line and the reason");
    FILE *file = fopen(check_path("node.desc"), "w");
    if (!file || fputs(description, file) < 0)
        return 2;
    fclose(file);
    if (mica_sim_open(check_directory)) {
        printf("# cannot start the engine in %s\n", check_directory);
        return 1;
    }
    check_run(a_dead_lock_holder_is_repaired, "who is killed under the lock blocks nobody, and derived totals are computed again");
    check_run(nothing_is_left_of_the_killed, "processes killed at any moment leave no memory, channel or queue behind");
    check_remove((const char *[]){"node.desc", "engine.state", NULL});
    return check_finish();
}
