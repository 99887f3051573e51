/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake target's memory: objects that die with their last user, and shared virtual memory.
 */
#define _GNU_SOURCE
#include "fake_opencl.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_MAGIC 0x6d656d6fU
#define SVM_SLOTS 64
#define SVM_STEP 256

struct destructor {
    cl_mem_notify notify;
    void *user;
    struct destructor *before;
};

struct _cl_mem {
    cl_uint magic;
    _Atomic unsigned references; /* the program's, those of commands that use it, and those of parts of it */
    size_t bytes;
    cl_mem whole; /* that this is a part of */
    struct destructor *last;
};

static _Atomic uint64_t living_bytes;
static _Atomic size_t next_bytes;
static _Atomic(void (*)(void)) after_free;

uint64_t fake_living_bytes(void)
{
    return atomic_load(&living_bytes);
}

void fake_next_takes(size_t bytes)
{
    atomic_store(&next_bytes, bytes);
}

void fake_after_free(void (*call)(void))
{
    atomic_store(&after_free, call);
}

static void freed(uint64_t bytes)
{
    atomic_fetch_sub(&living_bytes, bytes);
    void (*call)(void) = atomic_load(&after_free);
    if (call != NULL) {
        call();
    }
}

static cl_mem make(const char *name, cl_context context, size_t bytes, cl_mem whole, cl_int *error)
{
    (void)context;
    cl_int code = fake_begin(name);
    size_t other = code == CL_SUCCESS ? atomic_exchange(&next_bytes, 0) : 0;
    cl_mem memory = code == CL_SUCCESS ? calloc(1, sizeof *memory) : NULL;
    fake_tell(error, code);
    if (memory != NULL) {
        *memory = (struct _cl_mem){.magic = MEMORY_MAGIC, .references = 1, .bytes = other != 0 ? other : bytes, .whole = whole};
        fake_memory_use(whole);
        atomic_fetch_add(&living_bytes, whole == NULL ? memory->bytes : 0);
        fake_count_living(1);
    }
    return memory;
}

/* A test's command may name what is no memory: it is not touched. */
bool fake_is_memory(cl_mem memory)
{
    return memory != NULL && memory->magic == MEMORY_MAGIC;
}

void fake_memory_use(cl_mem memory)
{
    if (fake_is_memory(memory)) {
        atomic_fetch_add(&memory->references, 1);
    }
}

void fake_memory_unuse(cl_mem memory)
{
    if (!fake_is_memory(memory) || atomic_fetch_sub(&memory->references, 1) != 1) {
        return;
    }
    while (memory->last != NULL) {
        struct destructor *destructor = memory->last;
        memory->last = destructor->before;
        destructor->notify(memory, destructor->user);
        free(destructor);
    }
    cl_mem whole = memory->whole;
    uint64_t bytes = whole == NULL ? memory->bytes : 0;
    fake_count_living(-1);
    free(memory);
    freed(bytes);
    fake_memory_unuse(whole);
}

static cl_mem fake_clCreateBuffer(cl_context context, cl_bitfield flags, size_t size, void *host, cl_int *error)
{
    (void)flags, (void)host;
    return make("clCreateBuffer", context, size, NULL, error);
}

static cl_mem fake_clCreateBufferWithProperties(cl_context context, const cl_properties *properties, cl_bitfield flags, size_t size, void *host, cl_int *error)
{
    (void)properties, (void)flags, (void)host;
    return make("clCreateBufferWithProperties", context, size, NULL, error);
}

static cl_mem fake_clCreateSubBuffer(cl_mem whole, cl_bitfield flags, cl_uint type, const void *region, cl_int *error)
{
    (void)flags, (void)type;
    return make("clCreateSubBuffer", NULL, ((const size_t *)region)[1], whole, error);
}

/* Pixels of this target take one byte, whatever their format: what images really take is for a test to say. */
static cl_mem fake_clCreateImage(cl_context context, cl_bitfield flags, const cl_image_format *format, const cl_image_desc *desc, void *host, cl_int *error)
{
    (void)flags, (void)format, (void)host;
    return make("clCreateImage", context, desc->width, desc->from, error);
}

static cl_mem fake_clCreateImageWithProperties(cl_context context, const cl_properties *properties, cl_bitfield flags, const cl_image_format *format,
                                               const cl_image_desc *desc, void *host, cl_int *error)
{
    (void)properties;
    return fake_clCreateImage(context, flags, format, desc, host, error);
}

static cl_mem fake_clCreateImage2D(cl_context context, cl_bitfield flags, const cl_image_format *format, size_t width, size_t height, size_t row_pitch,
                                   void *host, cl_int *error)
{
    (void)flags, (void)format, (void)row_pitch, (void)host;
    return make("clCreateImage2D", context, width * height, NULL, error);
}

static cl_mem fake_clCreateImage3D(cl_context context, cl_bitfield flags, const cl_image_format *format, size_t width, size_t height, size_t depth,
                                   size_t row_pitch, size_t slice_pitch, void *host, cl_int *error)
{
    (void)flags, (void)format, (void)row_pitch, (void)slice_pitch, (void)host;
    return make("clCreateImage3D", context, width * height * depth, NULL, error);
}

static cl_mem fake_clCreatePipe(cl_context context, cl_bitfield flags, cl_uint packet_bytes, cl_uint packets, const cl_context_properties *properties,
                                cl_int *error)
{
    (void)flags, (void)properties;
    return make("clCreatePipe", context, (size_t)packet_bytes * packets, NULL, error);
}

static cl_int fake_clRetainMemObject(cl_mem memory)
{
    fake_memory_use(memory);
    return fake_begin("clRetainMemObject");
}

static cl_int fake_clReleaseMemObject(cl_mem memory)
{
    fake_memory_unuse(memory);
    return fake_begin("clReleaseMemObject");
}

static cl_int fake_clGetMemObjectInfo(cl_mem memory, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_int error = fake_begin("clGetMemObjectInfo");
    return error == CL_SUCCESS && what == CL_MEM_SIZE ? fake_give(&memory->bytes, sizeof memory->bytes, room, value, bytes) : CL_INVALID_VALUE;
}

static cl_int fake_clSetMemObjectDestructorCallback(cl_mem memory, cl_mem_notify notify, void *user)
{
    cl_int error = fake_begin("clSetMemObjectDestructorCallback");
    struct destructor *destructor = error == CL_SUCCESS ? malloc(sizeof *destructor) : NULL;
    if (destructor != NULL) {
        *destructor = (struct destructor){notify, user, memory->last};
        memory->last = destructor;
    }
    return error;
}

/* --- Shared virtual memory: the lowest free place, so that an address that was freed is the next one given out -------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the places */
static char svm[SVM_SLOTS * SVM_STEP];
static size_t svm_bytes[SVM_SLOTS]; /* 0: free */

static void *fake_clSVMAlloc(cl_context context, cl_bitfield flags, size_t size, cl_uint alignment)
{
    (void)context, (void)flags, (void)alignment;
    void *pointer = NULL;
    cl_int error = fake_begin("clSVMAlloc");
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; error == CL_SUCCESS && pointer == NULL && i < SVM_SLOTS; i++) {
        if (svm_bytes[i] == 0) {
            svm_bytes[i] = size;
            pointer = &svm[i * SVM_STEP];
            atomic_fetch_add(&living_bytes, size);
        }
    }
    pthread_mutex_unlock(&lock);
    return pointer;
}

void fake_svm_free(void *pointer)
{
    if (pointer == NULL) {
        return;
    }
    size_t slot = (size_t)((char *)pointer - svm) / SVM_STEP;
    pthread_mutex_lock(&lock);
    size_t bytes = svm_bytes[slot];
    svm_bytes[slot] = 0;
    pthread_mutex_unlock(&lock);
    freed(bytes);
}

static void fake_clSVMFree(cl_context context, void *pointer)
{
    (void)context;
    (void)fake_begin("clSVMFree");
    fake_svm_free(pointer);
}

void fake_put_memory(struct fake_table *table)
{
    FAKE_PUT(clCreateBuffer)
    FAKE_PUT(clCreateBufferWithProperties)
    FAKE_PUT_OWN(clCreateSubBuffer)
    FAKE_PUT(clCreateImage)
    FAKE_PUT(clCreateImageWithProperties)
    FAKE_PUT(clCreateImage2D)
    FAKE_PUT(clCreateImage3D)
    FAKE_PUT(clCreatePipe)
    FAKE_PUT_OWN(clRetainMemObject)
    FAKE_PUT(clReleaseMemObject)
    FAKE_PUT(clGetMemObjectInfo)
    FAKE_PUT(clSetMemObjectDestructorCallback)
    FAKE_PUT(clSVMAlloc)
    FAKE_PUT(clSVMFree)
}
