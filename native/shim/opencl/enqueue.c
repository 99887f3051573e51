/* SPDX-License-Identifier: Apache-2.0
 *
 * Every enqueue that makes a device work. Markers and barriers do not, and are the target's own.
 */
#define _GNU_SOURCE
#include "../core/cost.h"
#include "work.h"

#define NAME_BYTES 256
#define PART_BYTES 65536 /* copies of a like size cost alike */

/* A hook that enqueues a command of name `key`; ARGS ends with the place of its event. */
#define WORK_HOOK(name, params, args, work_name)                               \
    cl_int hook_##name params                                                 \
    {                                                                         \
        struct command command;                                               \
        cl_int result = work_begin(&command, queue, (work_name));              \
        if (result != CL_SUCCESS) {                                           \
            return result;                                                    \
        }                                                                     \
        cl_event *place = work_event(&command, event);                        \
        return work_end(&command, event, below.name args);                    \
    }

/* --- Kernels ------------------------------------------------------------------------------------------------------------ */

/* A kernel by its function's name: programs make kernel objects anew for each launch. */
static uint64_t kernel_key(cl_kernel kernel, uint64_t items, uint64_t local)
{
    char name[NAME_BYTES] = "";
    bool is_named = mica_attach_state() == MICA_INSIDE && below.clGetKernelInfo(kernel, CL_KERNEL_FUNCTION_NAME, sizeof name, name, NULL) == CL_SUCCESS;
    return mica_cost_key(is_named ? digest(DIGEST_BEGIN, name) : (uintptr_t)kernel, items, local);
}

static uint64_t volume(cl_uint dimensions, const size_t *size)
{
    uint64_t product = 1;
    for (cl_uint i = 0; size != NULL && i < dimensions && i < 3; i++) {
        product *= size[i];
    }
    return size != NULL ? product : 0;
}

WORK_HOOK(clEnqueueNDRangeKernel,
          (cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset, const size_t *global, const size_t *local, DONE),
          (queue, kernel, dimensions, offset, global, local, wait_count, waits, place),
          kernel_key(kernel, volume(dimensions, global), volume(dimensions, local)))
WORK_HOOK(clEnqueueTask, (cl_command_queue queue, cl_kernel kernel, DONE), (queue, kernel, wait_count, waits, place), kernel_key(kernel, 1, 1))
WORK_HOOK(clEnqueueNativeKernel,
          (cl_command_queue queue, void (*function)(void *), void *arguments, size_t argument_bytes, cl_uint memory_count, const cl_mem *memories,
           const void **places, DONE),
          (queue, function, arguments, argument_bytes, memory_count, memories, places, wait_count, waits, place),
          mica_cost_key((uint64_t)(uintptr_t)function, argument_bytes, 0))

/* --- Copies ------------------------------------------------------------------------------------------------------------- */

enum { COPY_READ = 1, COPY_WRITE, COPY_COPY, COPY_FILL, COPY_READ_RECT, COPY_WRITE_RECT, COPY_COPY_RECT, COPY_IMAGE_READ, COPY_IMAGE_WRITE,
       COPY_IMAGE, COPY_IMAGE_OUT, COPY_IMAGE_IN, COPY_IMAGE_FILL, COPY_MIGRATE, COPY_UNMAP, COPY_MAP, COPY_SVM, COPY_SVM_FILL };

/* A copy by its kind and size, in steps of a sixteenth. */
static uint64_t copy_key(unsigned kind, uint64_t amount)
{
    uint64_t step = 1;
    while (amount / step >= 32) {
        step *= 2;
    }
    return mica_cost_key(kind, amount / step * step + 1, ~0ULL);
}

static uint64_t box(const size_t *region)
{
    return volume(3, region);
}

WORK_HOOK(clEnqueueReadBuffer, (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, void *to, DONE),
          (queue, buffer, blocking, offset, size, to, wait_count, waits, place), copy_key(COPY_READ, size))
WORK_HOOK(clEnqueueWriteBuffer, (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, const void *from, DONE),
          (queue, buffer, blocking, offset, size, from, wait_count, waits, place), copy_key(COPY_WRITE, size))
WORK_HOOK(clEnqueueCopyBuffer, (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, size_t to_offset, size_t size, DONE),
          (queue, from, to, from_offset, to_offset, size, wait_count, waits, place), copy_key(COPY_COPY, size))
WORK_HOOK(clEnqueueFillBuffer, (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_bytes, size_t offset, size_t size, DONE),
          (queue, buffer, pattern, pattern_bytes, offset, size, wait_count, waits, place), copy_key(COPY_FILL, size))
WORK_HOOK(clEnqueueReadBufferRect,
          (cl_command_queue queue, cl_mem buffer, cl_bool blocking, const size_t *buffer_origin, const size_t *host_origin, const size_t *region,
           size_t buffer_row, size_t buffer_slice, size_t host_row, size_t host_slice, void *to, DONE),
          (queue, buffer, blocking, buffer_origin, host_origin, region, buffer_row, buffer_slice, host_row, host_slice, to, wait_count, waits, place),
          copy_key(COPY_READ_RECT, box(region)))
WORK_HOOK(clEnqueueWriteBufferRect,
          (cl_command_queue queue, cl_mem buffer, cl_bool blocking, const size_t *buffer_origin, const size_t *host_origin, const size_t *region,
           size_t buffer_row, size_t buffer_slice, size_t host_row, size_t host_slice, const void *from, DONE),
          (queue, buffer, blocking, buffer_origin, host_origin, region, buffer_row, buffer_slice, host_row, host_slice, from, wait_count, waits, place),
          copy_key(COPY_WRITE_RECT, box(region)))
WORK_HOOK(clEnqueueCopyBufferRect,
          (cl_command_queue queue, cl_mem from, cl_mem to, const size_t *from_origin, const size_t *to_origin, const size_t *region, size_t from_row,
           size_t from_slice, size_t to_row, size_t to_slice, DONE),
          (queue, from, to, from_origin, to_origin, region, from_row, from_slice, to_row, to_slice, wait_count, waits, place),
          copy_key(COPY_COPY_RECT, box(region)))
WORK_HOOK(clEnqueueReadImage,
          (cl_command_queue queue, cl_mem image, cl_bool blocking, const size_t *origin, const size_t *region, size_t row, size_t slice, void *to, DONE),
          (queue, image, blocking, origin, region, row, slice, to, wait_count, waits, place), copy_key(COPY_IMAGE_READ, box(region)))
WORK_HOOK(clEnqueueWriteImage,
          (cl_command_queue queue, cl_mem image, cl_bool blocking, const size_t *origin, const size_t *region, size_t row, size_t slice,
           const void *from, DONE),
          (queue, image, blocking, origin, region, row, slice, from, wait_count, waits, place), copy_key(COPY_IMAGE_WRITE, box(region)))
WORK_HOOK(clEnqueueCopyImage,
          (cl_command_queue queue, cl_mem from, cl_mem to, const size_t *from_origin, const size_t *to_origin, const size_t *region, DONE),
          (queue, from, to, from_origin, to_origin, region, wait_count, waits, place), copy_key(COPY_IMAGE, box(region)))
WORK_HOOK(clEnqueueCopyImageToBuffer,
          (cl_command_queue queue, cl_mem from, cl_mem to, const size_t *origin, const size_t *region, size_t to_offset, DONE),
          (queue, from, to, origin, region, to_offset, wait_count, waits, place), copy_key(COPY_IMAGE_OUT, box(region)))
WORK_HOOK(clEnqueueCopyBufferToImage,
          (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, const size_t *origin, const size_t *region, DONE),
          (queue, from, to, from_offset, origin, region, wait_count, waits, place), copy_key(COPY_IMAGE_IN, box(region)))
WORK_HOOK(clEnqueueFillImage, (cl_command_queue queue, cl_mem image, const void *color, const size_t *origin, const size_t *region, DONE),
          (queue, image, color, origin, region, wait_count, waits, place), copy_key(COPY_IMAGE_FILL, box(region)))
WORK_HOOK(clEnqueueMigrateMemObjects, (cl_command_queue queue, cl_uint count, const cl_mem *memories, cl_bitfield flags, DONE),
          (queue, count, memories, flags, wait_count, waits, place), copy_key(COPY_MIGRATE, count))
WORK_HOOK(clEnqueueUnmapMemObject, (cl_command_queue queue, cl_mem memory, void *mapped, DONE), (queue, memory, mapped, wait_count, waits, place),
          copy_key(COPY_UNMAP, 1))
WORK_HOOK(clEnqueueSVMMemcpy, (cl_command_queue queue, cl_bool blocking, void *to, const void *from, size_t size, DONE),
          (queue, blocking, to, from, size, wait_count, waits, place), copy_key(COPY_SVM, size))
WORK_HOOK(clEnqueueSVMMemFill, (cl_command_queue queue, void *to, const void *pattern, size_t pattern_bytes, size_t size, DONE),
          (queue, to, pattern, pattern_bytes, size, wait_count, waits, place), copy_key(COPY_SVM_FILL, size))
WORK_HOOK(clEnqueueSVMMap, (cl_command_queue queue, cl_bool blocking, cl_bitfield flags, void *pointer, size_t size, DONE),
          (queue, blocking, flags, pointer, size, wait_count, waits, place), copy_key(COPY_MAP, size))
WORK_HOOK(clEnqueueSVMUnmap, (cl_command_queue queue, void *pointer, DONE), (queue, pointer, wait_count, waits, place), copy_key(COPY_UNMAP, 2))
WORK_HOOK(clEnqueueSVMMigrateMem,
          (cl_command_queue queue, cl_uint count, const void **pointers, const size_t *sizes, cl_bitfield flags, DONE),
          (queue, count, pointers, sizes, flags, wait_count, waits, place), copy_key(COPY_MIGRATE, count))

/* A map answers with the place where the memory is, and with its error aside. */
#define MAP_HOOK(name, params, args, work_name)                        \
    void *hook_##name params                                          \
    {                                                                 \
        struct command command;                                       \
        cl_int result = work_begin(&command, queue, (work_name));      \
        if (result != CL_SUCCESS) {                                   \
            tell(error, result);                                      \
            return NULL;                                              \
        }                                                             \
        cl_event *place = work_event(&command, event);                \
        void *mapped = below.name args;                               \
        tell(error, work_end(&command, event, result));               \
        return mapped;                                                \
    }

MAP_HOOK(clEnqueueMapBuffer,
         (cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_bitfield flags, size_t offset, size_t size, cl_uint wait_count,
          const cl_event *waits, cl_event *event, cl_int *error),
         (queue, buffer, blocking, flags, offset, size, wait_count, waits, place, &result), copy_key(COPY_MAP, size))
MAP_HOOK(clEnqueueMapImage,
         (cl_command_queue queue, cl_mem image, cl_bool blocking, cl_bitfield flags, const size_t *origin, const size_t *region, size_t *row,
          size_t *slice, cl_uint wait_count, const cl_event *waits, cl_event *event, cl_int *error),
         (queue, image, blocking, flags, origin, region, row, slice, wait_count, waits, place, &result), copy_key(COPY_MAP, box(region)))
