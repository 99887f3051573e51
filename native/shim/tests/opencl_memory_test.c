/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory under the OpenCL layer: charged to the byte before the target is asked, and given back when the object really dies, once, whoever kept it so long.
 */
#define _GNU_SOURCE
#include "opencl_slice.h"

#include <pthread.h>

#define LIMIT_BYTES ((4ULL << 20) + 17)
#define PARTS 100
#define THREADS 4
#define ROUNDS 2000

static cl_context context;    /* on the slice's GPU */
static cl_context both;       /* on both of its devices */
static cl_command_queue queue; /* of the GPU */

static cl_mem buffer(cl_context in, size_t bytes, cl_int *error)
{
    return cl.clCreateBuffer(in, 0, bytes, NULL, error);
}

static bool refused(cl_context in, size_t bytes, cl_int with)
{
    cl_int error = CL_SUCCESS;
    return buffer(in, bytes, &error) == NULL && error == with;
}

static void release(cl_mem memory)
{
    check(cl.clReleaseMemObject(memory) == CL_SUCCESS, "an object is released");
}

static void test_exact(void)
{
    cl_int error = 1;
    cl_mem most = buffer(context, LIMIT_BYTES - 1, &error);
    check(most != NULL && error == CL_SUCCESS && charged(LIMIT_BYTES - 1), "a buffer is charged its bytes");
    check(refused(context, 2, CL_MEM_OBJECT_ALLOCATION_FAILURE) && charged(LIMIT_BYTES - 1), "a byte too many is refused and not charged");
    cl_mem rest_of_it = buffer(context, 1, NULL);
    check(rest_of_it != NULL && charged(LIMIT_BYTES), "the last byte is granted, also to who wants no error code");
    unsigned asked = fake_asked("clCreateBuffer");
    check(buffer(context, 1, NULL) == NULL && fake_asked("clCreateBuffer") == asked, "of what is refused the target is not asked");
    check(cl.clRetainMemObject(most) == CL_SUCCESS, "an object is retained");
    release(most);
    check(charged(LIMIT_BYTES), "one that was retained lives on, and stays charged");
    release(most);
    check(charged(1), "its last release gives it back");
    release(rest_of_it);
    check(charged(0) && fake_living_bytes() == 0, "and nothing is left");
}

/* What is written on stderr by `count` calls for one object that is larger than the slice. */
static void say_too_large(unsigned count, char *text, size_t room)
{
    int saved = dup(STDERR_FILENO);
    FILE *file = tmpfile();
    dup2(fileno(file), STDERR_FILENO);
    for (unsigned i = 0; i < count; i++) {
        check(refused(context, LIMIT_BYTES + 1, CL_INVALID_BUFFER_SIZE) && charged(0), "an object that no slice of this size can hold has an invalid size");
    }
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    text[fread(text, 1, room - 1, file)] = '\0';
    fclose(file);
}

static void test_too_large(void)
{
    char text[512];
    char expected[512];
    snprintf(expected, sizeof expected, "mica: slice %s: memory refused: device %s: %llu bytes asked for in one object, the slice has %llu\n", BENCH_SLICE,
             BENCH_DEVICE, LIMIT_BYTES + 1, LIMIT_BYTES);
    say_too_large(3, text, sizeof text);
    check(strcmp(text, expected) == 0, "which is said once, in one line");
    check(refused(context, SIZE_MAX, CL_INVALID_BUFFER_SIZE) && charged(0), "and so has the largest size that there is");
}

static void test_used(void)
{
    cl_mem memory = buffer(context, 1000, NULL);
    fake_hold(true);
    check(cl.clEnqueueFillBuffer(queue, memory, "", 1, 0, 1000, 0, NULL, NULL) == CL_SUCCESS, "a command uses a buffer");
    release(memory);
    check(charged(1000) && fake_living_bytes() == 1000, "a buffer that was released stays charged while a command uses it");
    fake_hold(false);
    check(fake_finish() && charged(0) && fake_living_bytes() == 0, "and is given back when that has ended");
}

static void test_parts(void)
{
    size_t region[2] = {0, 64};
    cl_mem whole = buffer(context, 1000, NULL);
    cl_mem part = cl.clCreateSubBuffer(whole, 0, 0, region, NULL);
    cl_image_format format = {.order = 0x10B0, .type = 0x10D2};
    cl_image_desc desc = {.type = CL_MEM_OBJECT_IMAGE1D, .width = 32, .from = whole};
    cl_mem image = cl.clCreateImage(context, 0, &format, &desc, NULL, NULL);
    check(part != NULL && image != NULL && charged(1000), "a part of a buffer and an image of it are its own memory");
    release(whole);
    release(image);
    check(charged(1000), "each keeps the whole of it");
    release(part);
    check(charged(0) && fake_living_bytes() == 0, "until the last is gone");
}

static unsigned notified;

static void on_destroyed(cl_mem memory, void *user)
{
    (void)memory;
    notified += user == &notified;
}

static void test_own_destructor(void)
{
    cl_mem memory = buffer(context, 1000, NULL);
    check(cl.clSetMemObjectDestructorCallback(memory, on_destroyed, &notified) == CL_SUCCESS, "a program may watch an object's end, too");
    release(memory);
    check(notified == 1 && charged(0), "and both see it");
}

static void test_target_fails(void)
{
    cl_int error = CL_SUCCESS;
    long living = fake_living();
    fake_fail("clCreateBuffer", CL_OUT_OF_HOST_MEMORY);
    check(buffer(context, 1000, &error) == NULL && error == CL_OUT_OF_HOST_MEMORY && charged(0), "what the target refuses is given back, with its own error");
    fake_fail("clSetMemObjectDestructorCallback", CL_OUT_OF_RESOURCES);
    check(refused(context, 1000, CL_OUT_OF_RESOURCES) && charged(0) && fake_living() == living, "an object whose end would not be seen is not handed out");
    fake_fail("clGetMemObjectInfo", CL_OUT_OF_RESOURCES);
    cl_mem memory = buffer(context, 1000, &error);
    check(memory != NULL && charged(1000), "one of which the target does not say what it takes is charged what was asked for");
    release(memory);
    fake_fail("clSVMAlloc", CL_OUT_OF_RESOURCES);
    check(cl.clSVMAlloc(context, 0, 100, 0) == NULL && charged(0), "shared memory that the target has not is given back");
    check(charged(0) && fake_living_bytes() == 0, "and nothing is left");
}

static void test_settled(void)
{
    cl_int error = CL_SUCCESS;
    long living = fake_living();
    fake_next_takes(4096);
    cl_mem memory = buffer(context, 1000, NULL);
    check(charged(4096), "an object that takes more than it was made with is charged what it takes");
    release(memory);
    fake_next_takes(10);
    memory = buffer(context, 1000, NULL);
    check(charged(10), "and one that takes less no more than that");
    release(memory);
    check(charged(0), "which is what it gives back");
    fake_next_takes(LIMIT_BYTES + 1);
    check(buffer(context, 1000, &error) == NULL && error != CL_SUCCESS && charged(0) && fake_living() == living, "one that turns out too large is taken down again");
}

/* What an image of this description is charged before the target says what it takes. */
static uint64_t computed(cl_image_desc desc)
{
    cl_image_format format = {.order = 0x10B5, .type = 0x10DE}; /* RGBA of floats: 16 bytes */
    fake_fail("clGetMemObjectInfo", CL_OUT_OF_RESOURCES);
    cl_mem image = cl.clCreateImage(context, 0, &format, &desc, NULL, NULL);
    uint64_t bytes = mica_charge_sum(gpu, MICA_MEMORY_VRAM);
    if (image != NULL) {
        release(image);
    }
    check(image != NULL && charged(0), "an image is made");
    return bytes;
}

static void test_images(void)
{
    cl_image_format format = {.order = 0x10B5, .type = 0x10D2};
    cl_image_desc desc = {.width = 4, .height = 3, .depth = 2, .array_size = 5};
    cl_mem images[3] = {cl.clCreateImage2D(context, 0, &format, 10, 10, 0, NULL, NULL), cl.clCreateImage3D(context, 0, &format, 10, 10, 10, 0, 0, NULL, NULL),
                        cl.clCreatePipe(context, 0, 8, 16, NULL, NULL)};
    check(charged(10 * 10 + 10 * 10 * 10 + 8 * 16), "images and pipes of every kind are charged what the target says that they take");
    for (unsigned i = 0; i < 3; i++) {
        release(images[i]);
    }
    check(charged(0), "and given back");
    desc.type = CL_MEM_OBJECT_IMAGE2D;
    check(computed(desc) == 4 * 3 * 16, "an image is charged its area, whatever stands where its kind has nothing");
    desc.type = CL_MEM_OBJECT_IMAGE3D;
    check(computed(desc) == 4 * 3 * 2 * 16, "one with depth its volume");
    desc.type = CL_MEM_OBJECT_IMAGE2D_ARRAY;
    check(computed(desc) == 4 * 3 * 5 * 16, "an array all of its images");
    desc.type = CL_MEM_OBJECT_IMAGE1D_ARRAY;
    check(computed(desc) == 4 * 5 * 16, "also one of lines");
    desc.type = CL_MEM_OBJECT_IMAGE1D;
    check(computed(desc) == 4 * 16, "and a line its width");
}

/* --- Several devices ---------------------------------------------------------------------------------------------------- */

static void test_both_devices(void)
{
    cl_mem memory = buffer(both, 1000, NULL);
    check(charged(1000) && mica_charge_sum(cpu, MICA_MEMORY_VRAM) == 1000, "memory of a context of two devices is charged on both");
    release(memory);
    check(charged(0) && mica_charge_sum(cpu, MICA_MEMORY_VRAM) == 0, "and given back on both");
    check(refused(both, OPENCL_CPU_BYTES + 1, CL_INVALID_BUFFER_SIZE) && charged(0), "what one of them has no room for is charged on none");
    memory = buffer(context, LIMIT_BYTES - 999, NULL);
    check(refused(both, 1000, CL_MEM_OBJECT_ALLOCATION_FAILURE) && mica_charge_sum(cpu, MICA_MEMORY_VRAM) == 0, "whichever of them that is");
    release(memory);
}

static void test_device_parts(void)
{
    intptr_t equally[] = {CL_DEVICE_PARTITION_EQUALLY, 1, 0};
    cl_device_id parts[PARTS];
    cl_int error = CL_SUCCESS;
    check(cl.clCreateSubDevices(fake_device(FAKE_OWN_GPU), equally, PARTS, parts, NULL) == CL_SUCCESS, "a device is divided");
    cl_context many = cl.clCreateContext(NULL, PARTS, parts, NULL, NULL, &error);
    check(many != NULL && error == CL_SUCCESS, "a context has many parts of a device");
    cl_mem memory = buffer(many, 1000, NULL);
    check(memory != NULL && charged(1000), "its memory is the device's, once");
    release(memory);
    check(charged(0) && cl.clReleaseContext(many) == CL_SUCCESS, "and given back");
}

/* --- Shared virtual memory ---------------------------------------------------------------------------------------------- */

static void *again;

/* What another thread may do at the very moment. */
static void take_again(void)
{
    uint64_t before = mica_charge_sum(gpu, MICA_MEMORY_VRAM);
    fake_after_free(NULL);
    cl.clSVMFree(context, cl.clSVMAlloc(context, 0, 40, 0));
    check(charged(before), "an address is its new owner's as soon as it can be given out again");
    again = cl.clSVMAlloc(context, 0, 30, 0);
}

static void test_shared(void)
{
    void *one = cl.clSVMAlloc(context, 0, 100, 0);
    void *two = cl.clSVMAlloc(context, 0, 20, 0);
    check(one != NULL && two != NULL && charged(120), "shared memory is charged");
    check(cl.clSVMAlloc(context, 0, LIMIT_BYTES, 0) == NULL && charged(120), "and meets the limit");
    fake_after_free(take_again);
    cl.clSVMFree(context, one);
    check(again == one && charged(50), "an address that is given out again while it is being freed is charged for its new owner");
    cl.clSVMFree(context, again);
    check(charged(20), "and given back once");
    cl.clSVMFree(context, NULL);
    check(charged(20), "nothing is freed by nothing");
    cl.clSVMFree(context, two);
    check(charged(0) && fake_living_bytes() == 0, "and all is given back");
}

static void free_first(cl_command_queue of, cl_uint count, void **pointers, void *user)
{
    check(of == queue && count == 2 && user == &again, "a program's own function is told what the program said");
    cl.clSVMFree(context, pointers[0]);
}

static void test_shared_in_order(void)
{
    void *pointers[3] = {cl.clSVMAlloc(context, 0, 100, 0), NULL, cl.clSVMAlloc(context, 0, 20, 0)};
    long living = fake_living();
    fake_hold(true);
    check(cl.clEnqueueSVMFree(queue, 3, pointers, NULL, NULL, 0, NULL, NULL) == CL_SUCCESS && charged(120), "what is freed in a queue's order is charged until then");
    fake_after_free(take_again);
    fake_hold(false);
    check(fake_finish() && charged(30), "and given back when it was freed, whoever has its address by now");
    cl.clSVMFree(context, again);
    check(charged(0) && fake_living() == living, "and no event of the layer's is left");
    pointers[0] = cl.clSVMAlloc(context, 0, 100, 0);
    fake_fail("clEnqueueSVMFree", CL_OUT_OF_RESOURCES);
    check(cl.clEnqueueSVMFree(queue, 1, pointers, NULL, NULL, 0, NULL, NULL) == CL_OUT_OF_RESOURCES && charged(100), "what the target does not free stays charged");
    pointers[1] = cl.clSVMAlloc(context, 0, 20, 0);
    check(cl.clEnqueueSVMFree(queue, 2, pointers, free_first, &again, 0, NULL, NULL) == CL_SUCCESS, "a program may free by a function of its own");
    check(fake_finish() && charged(20), "and that gives back what it frees");
    cl.clSVMFree(context, pointers[1]);
    check(charged(0) && fake_living_bytes() == 0, "which may come later");
}

/* --- Processes and threads ---------------------------------------------------------------------------------------------- */

static cl_mem of_parent;

static bool be_child(unsigned unused)
{
    (void)unused;
    cl_mem own = buffer(context, 10, NULL);
    bool counts = own != NULL && charged(1010) && mica_word_bytes(atomic_load(&gpu->processes[1].vram_word)) == 10;
    cl.clReleaseMemObject(of_parent);
    bool keeps = charged(1010);
    cl.clReleaseMemObject(own);
    return counts && keeps && charged(1000) && mica_word_bytes(atomic_load(&gpu->processes[0].vram_word)) == 1000;
}

static void test_fork(void)
{
    of_parent = buffer(context, 1000, NULL);
    check(in_child(be_child, 0), "a forked child has a slot of its own, and what it releases of its parent's stays charged");
    check(charged(1000), "until the parent releases it");
    release(of_parent);
    check(charged(0), "which it does");
}

static _Atomic uint64_t held_bytes;
static _Atomic uint64_t most_bytes;

/* Who was granted bytes says so; no more than the limit may ever have been granted at a time. */
static void note_taken(uint64_t bytes)
{
    uint64_t held = atomic_fetch_add(&held_bytes, bytes) + bytes;
    uint64_t most = atomic_load(&most_bytes);
    while (held > most && !atomic_compare_exchange_weak(&most_bytes, &most, held)) {
    }
}

static void *churn(void *seed)
{
    uint64_t state = (uintptr_t)seed;
    struct {
        cl_mem memory;
        uint64_t bytes;
    } own[3] = {{NULL, 0}};
    for (int round = 0; round < ROUNDS + 3; round++) {
        unsigned i = (unsigned)round % 3;
        if (own[i].memory != NULL) {
            if (round % 4 == 0) {
                cl.clEnqueueFillBuffer(queue, own[i].memory, "", 1, 0, 1, 0, NULL, NULL); /* dies on the target's thread */
            }
            atomic_fetch_sub(&held_bytes, own[i].bytes);
            cl.clReleaseMemObject(own[i].memory);
        }
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        own[i].bytes = LIMIT_BYTES / 8 + (state >> 44);
        own[i].memory = round < ROUNDS ? buffer(context, own[i].bytes, NULL) : NULL;
        note_taken(own[i].memory != NULL ? own[i].bytes : 0);
    }
    return NULL;
}

static pthread_barrier_t both_looked;

/* The control: looks, and takes what it saw. */
static void *take_naively(void *unused)
{
    uint64_t seen = atomic_load(&held_bytes);
    pthread_barrier_wait(&both_looked);
    if (seen + LIMIT_BYTES <= LIMIT_BYTES) {
        note_taken(LIMIT_BYTES);
    }
    return unused;
}

static uint64_t most_of(void *(*body)(void *), uintptr_t count)
{
    pthread_t threads[THREADS];
    atomic_store(&held_bytes, 0);
    atomic_store(&most_bytes, 0);
    for (uintptr_t i = 0; i < count; i++) {
        pthread_create(&threads[i], NULL, body, (void *)(i + 1));
    }
    for (uintptr_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    return atomic_load(&most_bytes);
}

static void test_threads(void)
{
    uint64_t most = most_of(churn, THREADS);
    check(most > 0 && most <= LIMIT_BYTES, "threads never hold more than the slice has, however they come");
    check(fake_finish() && charged(0) && fake_living_bytes() == 0, "and leave nothing charged");
    pthread_barrier_init(&both_looked, NULL, 2);
    check(most_of(take_naively, 2) > LIMIT_BYTES, "two that look first and take then do: the test sees it");
    pthread_barrier_destroy(&both_looked);
}

static void test_limits_change(void)
{
    cl_mem memory = buffer(context, 1000, NULL);
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_DRAIN);
    check(refused(context, 1, CL_MEM_OBJECT_ALLOCATION_FAILURE) && charged(1000), "a draining slice gets nothing more and keeps what it has");
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_KILL);
    check(refused(context, 1, CL_OUT_OF_RESOURCES) && cl.clSVMAlloc(context, 0, 1, 0) == NULL && charged(1000), "a killed one's calls fail");
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_RUN);
    release(memory);
    check(charged(0), "and what it had is given back as ever");
}

static int inside(void)
{
    cl_device_id devices[] = {fake_device(FAKE_OWN_GPU), fake_device(FAKE_OWN_CPU)};
    load_target(FAKE_ENTRIES);
    if (!load_layer(FAKE_ENTRIES)) {
        return 1;
    }
    context = cl.clCreateContext(NULL, 1, devices, NULL, NULL, NULL);
    both = cl.clCreateContext(NULL, 2, devices, NULL, NULL, NULL);
    queue = cl.clCreateCommandQueue(context, devices[0], 0, NULL);
    check(context != NULL && both != NULL && queue != NULL, "contexts and a queue are made");
    test_exact();
    test_fork(); /* while there is one thread */
    test_too_large();
    test_parts();
    test_own_destructor();
    test_target_fails();
    test_settled();
    test_images();
    test_both_devices();
    test_device_parts();
    test_shared();
    test_used();
    test_shared_in_order();
    test_threads();
    test_limits_change();
    return 0;
}

int main(int count, char **arguments)
{
    (void)count;
    return run_in_opencl_slice(arguments, LIMIT_BYTES, inside);
}
