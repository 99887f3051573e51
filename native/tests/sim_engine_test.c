/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated drivers' engine from inside: its schedule, its description reader, and what a killed process leaves behind.
 */
#include <errno.h>
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
                                  "vendor nvidia\n"
                                  "uuid GPU-00000000-0000-5000-8000-000000000000\n"
                                  "vram_bytes 1073741824\n"
                                  "multiprocessors 4\n"
                                  "warp_threads 32\n"
                                  "block_threads_max 1024\n"
                                  "multiprocessor_threads_max 2048\n"
                                  "multiprocessor_blocks_max 32\n";

/* --- The schedule --------------------------------------------------------------------------------------------------------- */

#define CLIENTS 3
#define ALL 100 /* multiprocessors */

static struct sim_state *blank(uint64_t timeslice_ns)
{
    struct sim_state *state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    state->node.device_count = 1;
    state->node.timeslice_ns = timeslice_ns;
    state->node.devices[0].multiprocessors = ALL;
    struct sim_timeline *timeline = &state->devices[0].timeline;
    sim_timeline_clear(timeline);
    for (int i = 0; i < CLIENTS; i++) {
        state->channels[i] = (struct sim_channel){.live = 1, .process = i, .gpu_instance = -1, .compute_instance = -1};
        timeline->members[timeline->member_count++] = (uint16_t)i;
    }
    return state;
}

static struct sim_order *queue_on(struct sim_state *state, int index, unsigned number, uint64_t submit_ns, uint64_t cost_ns, uint32_t width)
{
    struct sim_channel *channel = &state->channels[index];
    struct sim_lane *lane = &channel->lanes[number];
    CHECK_EQUAL(sim_lane_ensure(state, channel, number), 0);
    struct sim_order *ring = state->rings[lane->ring - 1].orders, *last = &ring[lane->submitted % SIM_RING];
    struct sim_order *order = &ring[(lane->submitted + 1) % SIM_RING];
    *order = (struct sim_order){.submit_ns = submit_ns, .cost_ns = cost_ns, .multiprocessors = width};
    order->sum_ns = (lane->submitted ? last->sum_ns : 0) + cost_ns;
    order->sum_multiprocessor_ns = (lane->submitted ? last->sum_multiprocessor_ns : 0) + cost_ns * width;
    lane->submitted++;
    return order;
}

static void submit(struct sim_state *state, int index, uint64_t submit_ns, uint64_t cost_ns)
{
    queue_on(state, index, SIM_LANE_COMPUTE, submit_ns, cost_ns, ALL);
}

static uint64_t end_in(const struct sim_state *state, int index, unsigned lane, uint64_t number)
{
    return state->rings[state->channels[index].lanes[lane].ring - 1].orders[number % SIM_RING].end_ns;
}

static uint64_t end_of(const struct sim_state *state, int index, uint64_t number)
{
    return end_in(state, index, SIM_LANE_COMPUTE, number);
}

static void advance(struct sim_state *state, uint64_t now_ns)
{
    sim_timeline_advance(state, &state->devices[0].timeline, now_ns);
}

static uint64_t busy(const struct sim_state *state)
{
    return sim_timeline_busy_ns(&state->devices[0].timeline);
}

static void schedule_in_order(void)
{
    struct sim_state *state = blank(0);
    submit(state, 0, 100, 50);
    submit(state, 1, 110, 10);
    submit(state, 0, 120, 50);
    submit(state, 1, 500, 5);
    advance(state, 1000);
    CHECK_EQUAL(end_of(state, 0, 1), 150);
    CHECK_EQUAL(end_of(state, 1, 1), 160);
    CHECK_EQUAL(end_of(state, 0, 2), 210);
    CHECK_EQUAL(end_of(state, 1, 2), 505);
    CHECK_EQUAL(busy(state), 115);
    munmap(state, sizeof *state);
}

static void schedule_in_turns(void)
{
    struct sim_state *state = blank(100);
    for (int i = 0; i < 4; i++) {
        submit(state, 0, 0, 100);
        submit(state, 1, 0, 50);
    }
    advance(state, 10000);
    CHECK_EQUAL(end_of(state, 0, 1), 100);
    CHECK_EQUAL(end_of(state, 1, 2), 200); /* two short ones fill a turn */
    CHECK_EQUAL(end_of(state, 0, 2), 300);
    CHECK_EQUAL(end_of(state, 1, 4), 400);
    CHECK_EQUAL(end_of(state, 0, 4), 600);
    munmap(state, sizeof *state);
}

static void long_kernels_alternate(void)
{
    struct sim_state *state = blank(100);
    submit(state, 0, 0, 1000);
    submit(state, 1, 0, 250);
    submit(state, 2, 50, 10);
    advance(state, 10000);
    CHECK_EQUAL(end_of(state, 2, 1), 210); /* behind one turn of each */
    CHECK_EQUAL(end_of(state, 1, 1), 560);
    CHECK_EQUAL(end_of(state, 0, 1), 1260);
    CHECK_EQUAL(busy(state), 1260);
    munmap(state, sizeof *state);
}

static void clients_of_mps_run_side_by_side(void)
{
    struct sim_state *state = blank(100);
    for (int i = 0; i < CLIENTS; i++)
        state->channels[i].mps = 1;
    queue_on(state, 0, SIM_LANE_COMPUTE, 0, 1000, 30);
    queue_on(state, 1, SIM_LANE_COMPUTE, 0, 500, 70);
    queue_on(state, 0, SIM_LANE_COMPUTE, 0, 600, 60);
    queue_on(state, 2, SIM_LANE_COMPUTE, 1000, 400, 140);
    advance(state, 10000);
    CHECK_EQUAL(end_of(state, 1, 1), 500);
    CHECK_EQUAL(end_of(state, 0, 1), 1000);
    CHECK_EQUAL(end_of(state, 2, 1), 1800); /* 200 asked of 100: both at half speed */
    CHECK_EQUAL(end_of(state, 0, 2), 2000); /* the last 200 alone again */
    CHECK_EQUAL(busy(state), 2000);
    munmap(state, sizeof *state);
}

static void clients_of_mps_share_one_turn(void)
{
    struct sim_state *state = blank(100);
    state->channels[0].mps = state->channels[1].mps = 1;
    queue_on(state, 0, SIM_LANE_COMPUTE, 0, 300, 50);
    queue_on(state, 1, SIM_LANE_COMPUTE, 0, 300, 50);
    submit(state, 2, 0, 300);
    advance(state, 10000);
    CHECK_EQUAL(end_of(state, 0, 1), 500);
    CHECK_EQUAL(end_of(state, 1, 1), 500);
    CHECK_EQUAL(end_of(state, 2, 1), 600);
    munmap(state, sizeof *state);
}

static void urgent_kernels_go_first(void)
{
    struct sim_state *state = blank(1000);
    submit(state, 0, 0, 500);
    queue_on(state, 0, SIM_LANE_URGENT, 100, 50, ALL);
    advance(state, 10000);
    CHECK_EQUAL(end_in(state, 0, SIM_LANE_URGENT, 1), 150);
    CHECK_EQUAL(end_of(state, 0, 1), 550);
    munmap(state, sizeof *state);
}

static void copies_overlap_kernels(void)
{
    struct sim_state *state = blank(1000);
    submit(state, 0, 0, 500);
    queue_on(state, 0, SIM_LANE_TO_DEVICE, 0, 200, 0);
    queue_on(state, 1, SIM_LANE_TO_DEVICE, 10, 200, 0);
    struct sim_order *back = queue_on(state, 0, SIM_LANE_TO_HOST, 20, 100, 0);
    back->after_lanes = 1u << SIM_LANE_COMPUTE;
    back->after[SIM_LANE_COMPUTE] = 1;
    advance(state, 10000);
    CHECK_EQUAL(end_in(state, 0, SIM_LANE_TO_DEVICE, 1), 200);
    CHECK_EQUAL(end_in(state, 1, SIM_LANE_TO_DEVICE, 1), 400); /* one engine for each direction */
    CHECK_EQUAL(end_of(state, 0, 1), 500);
    CHECK_EQUAL(end_in(state, 0, SIM_LANE_TO_HOST, 1), 600);
    CHECK_EQUAL(busy(state), 500);
    CHECK_EQUAL(sim_channel_done(state, &state->channels[0], true).ns, 300);
    munmap(state, sizeof *state);
}

/* Whoever looks, and however often, decides the same. */
static void schedule_is_a_function_of_submissions(void)
{
    struct sim_state *leap = blank(300), *steps = blank(300);
    uint64_t now_ns = 0;
    uint64_t random = 7;
    for (int i = 0; i < 900; i++) {
        int index = (int)(check_random(&random) >> 60) % CLIENTS;
        uint64_t cost_ns = 1 + check_random(&random) % 700;
        now_ns += check_random(&random) % 150;
        submit(leap, index, now_ns, cost_ns);
        advance(steps, now_ns);
        submit(steps, index, now_ns, cost_ns);
    }
    for (uint64_t at_ns = now_ns; at_ns < now_ns + 600000; at_ns += 777)
        advance(steps, at_ns);
    advance(steps, now_ns + 600000);
    advance(leap, now_ns + 600000);
    for (int index = 0; index < CLIENTS; index++) {
        const struct sim_lane *lane = &leap->channels[index].lanes[SIM_LANE_COMPUTE];
        CHECK_EQUAL(lane->completed, lane->submitted);
        for (uint64_t n = 1; n <= lane->submitted; n++)
            CHECK_EQUAL(end_of(steps, index, n), end_of(leap, index, n));
    }
    munmap(leap, sizeof *leap);
    munmap(steps, sizeof *steps);
}

static void dropped_work_is_paid_as_far_as_it_got(void)
{
    struct sim_state *state = blank(1000);
    submit(state, 0, 0, 1000);
    submit(state, 0, 0, 1000);
    submit(state, 1, 0, 7);
    advance(state, 400);
    sim_channel_drop(state, 0, 400);
    advance(state, 500);
    CHECK_EQUAL(sim_channel_done(state, &state->channels[0], false).ns, 400);
    CHECK_EQUAL(end_of(state, 1, 1), 407);
    CHECK_EQUAL(busy(state), 407);
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
    CHECK(parse("", "colour 7\n", problem) < 0 && strstr(problem, "line 17, `colour 7`: unknown key"));
    CHECK(parse("", "vram_bytes lots\n", problem) < 0 && strstr(problem, "not a number"));
    CHECK(parse("", "multiprocessors 4294967296\n", problem) < 0 && strstr(problem, "not a number in range"));
    CHECK(parse("", "reserve_bytes 1073741824\n", problem) < 0 && strstr(problem, "VRAM"));
    CHECK(parse("profile 1g\n", "", problem) < 0 && strstr(problem, "outside of a device"));
    CHECK(parse("kernel x\n", "", problem) < 0 && strstr(problem, "GLOB BLOCK_NS"));
    CHECK(parse("kernel x 7 colour 3\n", "", problem) < 0 && strstr(problem, "unknown key"));
    CHECK_EQUAL(parse("kernel x* 7 fixed_ns 3 grid_ns 2 noise_ppm 1000\nmps 1\nseed 5\n", "", problem), 0);
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
        if (sim_process_register((struct sim_client){0}) < 0)
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
    sim_order_try(account, SIM_LANE_COMPUTE, 1000, 1, NULL);
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
    for (int i = 0; i < SIM_RINGS_MAX; i++)
        CHECK_EQUAL(state->ring_taken[i], 0);
    sim_leave(state);
}

/* --- Suspending ------------------------------------------------------------------------------------------------------------- */

static void go_away_and_back(int account)
{
    sim_vram_charge(account, 1000, 5 * SIM_GRANULE);
    sim_books_take_away();
    if (sim_books_put_back())
        abort();
    sim_vram_refund(account, 1000, 5 * SIM_GRANULE);
}

static void what_is_away_is_nowhere_charged(void)
{
    uint64_t random = 13;
    for (int round = 0; round < 40; round++) {
        pid_t pids[3];
        for (int i = 0; i < 3; i++)
            pids[i] = child(go_away_and_back);
        for (volatile uint64_t spin = check_random(&random) % 100000; spin; spin--) {
        }
        CHECK(spent() <= 3 * 5 * SIM_GRANULE);
        for (int i = 0; i < 3; i++)
            finish(pids[i]);
        CHECK_EQUAL(spent(), 0);
    }
}

static pid_t served;

static enum sim_stage after(enum sim_step step)
{
    return step == SIM_STEP_CHECKPOINT ? SIM_STAGE_CHECKPOINTED : step == SIM_STEP_UNLOCK ? SIM_STAGE_RUNNING : SIM_STAGE_LOCKED;
}

static void serve(int account)
{
    static bool open;
    uint64_t until_ns;
    if (!open) {
        sim_vram_charge(account, 1000, 5 * SIM_GRANULE);
        sim_desk_open((int)getpid());
        open = true;
    }
    enum sim_step step = sim_desk_next(&until_ns);
    if (step == SIM_STEP_CHECKPOINT)
        sim_books_take_away();
    else if (step == SIM_STEP_RESTORE && sim_books_put_back())
        abort();
    sim_desk_answer(after(step), 7);
}

/* One step on from wherever the served process is: there if `away`, else back. */
static int one_step(bool away)
{
    uint32_t stage;
    int thread, result = 0;
    if (sim_desk_look((int)served, &stage, &thread))
        return -ESRCH;
    enum sim_step step = stage == SIM_STAGE_RUNNING ? SIM_STEP_LOCK : stage == SIM_STAGE_CHECKPOINTED ? SIM_STEP_RESTORE : away ? SIM_STEP_CHECKPOINT : SIM_STEP_UNLOCK;
    int asked = sim_desk_ask((int)served, step, (enum sim_stage)stage, 0, &result);
    CHECK(asked == -EPERM || asked == -ESRCH || result == 7); /* another was faster, or it is over */
    return asked;
}

static void ask_for_ever(int account)
{
    (void)account;
    for (int i = 0; i < 7; i++)
        one_step(i % 7 < 3);
}

static void steps_outlive_their_asker(void)
{
    uint64_t random = 17;
    uint32_t stage = SIM_STAGE_FAILED;
    int thread;
    served = child(serve);
    while (sim_desk_look((int)served, &stage, &thread)) {
    }
    uint64_t held = spent();
    CHECK_EQUAL(stage, SIM_STAGE_RUNNING);
    CHECK_EQUAL(thread, (int)served);
    for (int round = 0; round < 30; round++) {
        pid_t askers[2] = {child(ask_for_ever), child(ask_for_ever)};
        for (volatile uint64_t spin = check_random(&random) % 300000; spin; spin--) {
        }
        finish(askers[0]);
        finish(askers[1]);
    }
    for (int i = 0; i < 3; i++) {
        while (!sim_desk_look((int)served, &stage, &thread) && stage != SIM_STAGE_CHECKPOINTED)
            one_step(true);
        CHECK_EQUAL(spent(), 0);
        while (!sim_desk_look((int)served, &stage, &thread) && stage != SIM_STAGE_RUNNING)
            one_step(false);
        CHECK_EQUAL(spent(), held);
    }
    int result;
    CHECK_EQUAL(sim_desk_ask((int)served, SIM_STEP_UNLOCK, SIM_STAGE_LOCKED, 0, &result), -EPERM);
    kill(served, SIGSTOP);
    CHECK_EQUAL(sim_desk_ask((int)served, SIM_STEP_LOCK, SIM_STAGE_RUNNING, sim_now_ns() + 30000000, &result), -ETIMEDOUT);
    kill(served, SIGCONT);
    CHECK_EQUAL(sim_desk_ask((int)served, SIM_STEP_LOCK, SIM_STAGE_RUNNING, 0, &result), 0);
    finish(served);
    CHECK_EQUAL(sim_desk_ask((int)served, SIM_STEP_UNLOCK, SIM_STAGE_LOCKED, 0, &result), -ESRCH);
    CHECK_EQUAL(spent(), 0);
}

int main(void)
{
    check_run(schedule_in_order, "without time slices kernels run strictly in order of submission, one at a time");
    check_run(schedule_in_turns, "with time slices processes take turns of equal time");
    check_run(long_kernels_alternate, "a kernel longer than a time slice is stopped, and goes on when its turn comes again");
    check_run(clients_of_mps_run_side_by_side, "clients of MPS run at once, in proportion where they ask for too many multiprocessors");
    check_run(clients_of_mps_share_one_turn, "all clients of MPS together take turns with a process that is none");
    check_run(urgent_kernels_go_first, "a kernel of a stream of higher priority stops the process's others");
    check_run(copies_overlap_kernels, "copies run beside kernels, one at a time in each direction, and wait for what they were told to");
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
    check_run(what_is_away_is_nowhere_charged, "what a checkpoint took away is charged to nobody, whenever its process is killed");
    check_run(steps_outlive_their_asker, "a step that was asked for is brought to its end, whoever is killed, and is then anybody's to go on from");
    check_remove((const char *[]){"node.desc", "engine.state", NULL});
    return check_finish();
}
