/* SPDX-License-Identifier: Apache-2.0
 *
 * The calls that the layer answers itself, X(type, name, parameters), and those that it only makes, Y. Every other entry of the table is the target's own.
 */
#ifndef MICA_SHIM_OPENCL_HOOKS_H
#define MICA_SHIM_OPENCL_HOOKS_H

#include "types.h"

typedef void (*cl_notify)(const char *text, const void *data, size_t bytes, void *user);
typedef void (*cl_event_notify)(cl_event event, cl_int status, void *user);
typedef void (*cl_mem_notify)(cl_mem memory, void *user);
typedef void (*cl_svm_free_notify)(cl_command_queue queue, cl_uint count, void **pointers, void *user);

#define DONE cl_uint wait_count, const cl_event *waits, cl_event *event

#define OPENCL_HOOKS(X)                                                                                                                       \
    X(cl_int, clGetDeviceIDs, (cl_platform_id platform, cl_bitfield type, cl_uint room, cl_device_id *devices, cl_uint *count))                \
    X(cl_int, clGetDeviceInfo, (cl_device_id device, cl_uint what, size_t room, void *value, size_t *bytes))                                   \
    X(cl_context, clCreateContext,                                                                                                             \
      (const cl_context_properties *properties, cl_uint count, const cl_device_id *devices, cl_notify notify, void *user, cl_int *error))      \
    X(cl_context, clCreateContextFromType,                                                                                                     \
      (const cl_context_properties *properties, cl_bitfield type, cl_notify notify, void *user, cl_int *error))                                \
    X(cl_int, clRetainDevice, (cl_device_id device))                                                                                           \
    X(cl_int, clReleaseDevice, (cl_device_id device))                                                                                          \
    X(cl_int, clCreateSubDevices,                                                                                                              \
      (cl_device_id device, const cl_device_partition_property *properties, cl_uint room, cl_device_id *devices, cl_uint *count))              \
    X(cl_int, clGetContextInfo, (cl_context context, cl_uint what, size_t room, void *value, size_t *bytes))                                   \
    X(cl_int, clGetSupportedImageFormats,                                                                                                      \
      (cl_context context, cl_bitfield flags, cl_uint type, cl_uint room, cl_image_format *formats, cl_uint *count))                           \
    X(cl_int, clGetProgramInfo, (cl_program program, cl_uint what, size_t room, void *value, size_t *bytes))                                   \
    X(cl_command_queue, clCreateCommandQueue, (cl_context context, cl_device_id device, cl_bitfield properties, cl_int *error))                \
    X(cl_command_queue, clCreateCommandQueueWithProperties,                                                                                    \
      (cl_context context, cl_device_id device, const cl_properties *properties, cl_int *error))                                               \
    X(cl_int, clSetCommandQueueProperty, (cl_command_queue queue, cl_bitfield properties, cl_bool enable, cl_bitfield *before))                \
    X(cl_int, clGetCommandQueueInfo, (cl_command_queue queue, cl_uint what, size_t room, void *value, size_t *bytes))                          \
    X(cl_int, clGetEventProfilingInfo, (cl_event event, cl_uint what, size_t room, void *value, size_t *bytes))                                \
    X(cl_int, clSetEventCallback, (cl_event event, cl_int status, cl_event_notify notify, void *user))                                         \
    X(cl_mem, clCreateBuffer, (cl_context context, cl_bitfield flags, size_t size, void *host, cl_int *error))                                 \
    X(cl_mem, clCreateBufferWithProperties,                                                                                                    \
      (cl_context context, const cl_properties *properties, cl_bitfield flags, size_t size, void *host, cl_int *error))                        \
    X(cl_mem, clCreateImage,                                                                                                                   \
      (cl_context context, cl_bitfield flags, const cl_image_format *format, const cl_image_desc *desc, void *host, cl_int *error))            \
    X(cl_mem, clCreateImageWithProperties,                                                                                                     \
      (cl_context context, const cl_properties *properties, cl_bitfield flags, const cl_image_format *format, const cl_image_desc *desc,       \
       void *host, cl_int *error))                                                                                                             \
    X(cl_mem, clCreateImage2D,                                                                                                                 \
      (cl_context context, cl_bitfield flags, const cl_image_format *format, size_t width, size_t height, size_t row_pitch, void *host,        \
       cl_int *error))                                                                                                                         \
    X(cl_mem, clCreateImage3D,                                                                                                                 \
      (cl_context context, cl_bitfield flags, const cl_image_format *format, size_t width, size_t height, size_t depth, size_t row_pitch,      \
       size_t slice_pitch, void *host, cl_int *error))                                                                                         \
    X(cl_mem, clCreatePipe,                                                                                                                    \
      (cl_context context, cl_bitfield flags, cl_uint packet_bytes, cl_uint packets, const cl_context_properties *properties, cl_int *error))  \
    X(cl_int, clSetMemObjectDestructorCallback, (cl_mem memory, cl_mem_notify notify, void *user))                                             \
    X(void *, clSVMAlloc, (cl_context context, cl_bitfield flags, size_t size, cl_uint alignment))                                             \
    X(void, clSVMFree, (cl_context context, void *pointer))                                                                                    \
    X(cl_int, clEnqueueSVMFree,                                                                                                                \
      (cl_command_queue queue, cl_uint count, void *pointers[], cl_svm_free_notify notify, void *user, DONE))                                  \
    X(cl_int, clEnqueueNDRangeKernel,                                                                                                          \
      (cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset, const size_t *global, const size_t *local, DONE))   \
    X(cl_int, clEnqueueTask, (cl_command_queue queue, cl_kernel kernel, DONE))                                                                 \
    X(cl_int, clEnqueueNativeKernel,                                                                                                           \
      (cl_command_queue queue, void (*function)(void *), void *arguments, size_t argument_bytes, cl_uint memory_count, const cl_mem *memories, \
       const void **places, DONE))                                                                                                             \
    X(cl_int, clEnqueueReadBuffer,                                                                                                             \
      (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, void *to, DONE))                                   \
    X(cl_int, clEnqueueWriteBuffer,                                                                                                            \
      (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, const void *from, DONE))                           \
    X(cl_int, clEnqueueCopyBuffer,                                                                                                             \
      (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, size_t to_offset, size_t size, DONE))                               \
    X(cl_int, clEnqueueReadBufferRect,                                                                                                         \
      (cl_command_queue queue, cl_mem buffer, cl_bool blocking, const size_t *buffer_origin, const size_t *host_origin, const size_t *region,  \
       size_t buffer_row, size_t buffer_slice, size_t host_row, size_t host_slice, void *to, DONE))                                            \
    X(cl_int, clEnqueueWriteBufferRect,                                                                                                        \
      (cl_command_queue queue, cl_mem buffer, cl_bool blocking, const size_t *buffer_origin, const size_t *host_origin, const size_t *region,  \
       size_t buffer_row, size_t buffer_slice, size_t host_row, size_t host_slice, const void *from, DONE))                                    \
    X(cl_int, clEnqueueCopyBufferRect,                                                                                                         \
      (cl_command_queue queue, cl_mem from, cl_mem to, const size_t *from_origin, const size_t *to_origin, const size_t *region,               \
       size_t from_row, size_t from_slice, size_t to_row, size_t to_slice, DONE))                                                              \
    X(cl_int, clEnqueueFillBuffer,                                                                                                             \
      (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_bytes, size_t offset, size_t size, DONE))                    \
    X(cl_int, clEnqueueReadImage,                                                                                                              \
      (cl_command_queue queue, cl_mem image, cl_bool blocking, const size_t *origin, const size_t *region, size_t row, size_t slice, void *to, \
       DONE))                                                                                                                                  \
    X(cl_int, clEnqueueWriteImage,                                                                                                             \
      (cl_command_queue queue, cl_mem image, cl_bool blocking, const size_t *origin, const size_t *region, size_t row, size_t slice,           \
       const void *from, DONE))                                                                                                                \
    X(cl_int, clEnqueueCopyImage,                                                                                                              \
      (cl_command_queue queue, cl_mem from, cl_mem to, const size_t *from_origin, const size_t *to_origin, const size_t *region, DONE))        \
    X(cl_int, clEnqueueCopyImageToBuffer,                                                                                                      \
      (cl_command_queue queue, cl_mem from, cl_mem to, const size_t *origin, const size_t *region, size_t to_offset, DONE))                    \
    X(cl_int, clEnqueueCopyBufferToImage,                                                                                                      \
      (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, const size_t *origin, const size_t *region, DONE))                  \
    X(cl_int, clEnqueueFillImage,                                                                                                              \
      (cl_command_queue queue, cl_mem image, const void *color, const size_t *origin, const size_t *region, DONE))                             \
    X(cl_int, clEnqueueMigrateMemObjects,                                                                                                      \
      (cl_command_queue queue, cl_uint count, const cl_mem *memories, cl_bitfield flags, DONE))                                                \
    X(cl_int, clEnqueueUnmapMemObject, (cl_command_queue queue, cl_mem memory, void *mapped, DONE))                                            \
    X(cl_int, clEnqueueSVMMemcpy, (cl_command_queue queue, cl_bool blocking, void *to, const void *from, size_t size, DONE))                   \
    X(cl_int, clEnqueueSVMMemFill, (cl_command_queue queue, void *to, const void *pattern, size_t pattern_bytes, size_t size, DONE))           \
    X(cl_int, clEnqueueSVMMap, (cl_command_queue queue, cl_bool blocking, cl_bitfield flags, void *pointer, size_t size, DONE))                \
    X(cl_int, clEnqueueSVMUnmap, (cl_command_queue queue, void *pointer, DONE))                                                                \
    X(cl_int, clEnqueueSVMMigrateMem,                                                                                                          \
      (cl_command_queue queue, cl_uint count, const void **pointers, const size_t *sizes, cl_bitfield flags, DONE))                            \
    X(void *, clEnqueueMapBuffer,                                                                                                              \
      (cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_bitfield flags, size_t offset, size_t size, cl_uint wait_count,             \
       const cl_event *waits, cl_event *event, cl_int *error))                                                                                 \
    X(void *, clEnqueueMapImage,                                                                                                               \
      (cl_command_queue queue, cl_mem image, cl_bool blocking, cl_bitfield flags, const size_t *origin, const size_t *region, size_t *row,     \
       size_t *slice, cl_uint wait_count, const cl_event *waits, cl_event *event, cl_int *error))

#define OPENCL_CALLS(Y)                                                                                                  \
    Y(cl_int, clGetPlatformIDs, (cl_uint room, cl_platform_id * platforms, cl_uint * count))                             \
    Y(cl_int, clGetPlatformInfo, (cl_platform_id platform, cl_uint what, size_t room, void *value, size_t *bytes))       \
    Y(cl_int, clReleaseContext, (cl_context context))                                                                    \
    Y(cl_int, clGetMemObjectInfo, (cl_mem memory, cl_uint what, size_t room, void *value, size_t *bytes))                \
    Y(cl_int, clReleaseMemObject, (cl_mem memory))                                                                       \
    Y(cl_int, clGetKernelInfo, (cl_kernel kernel, cl_uint what, size_t room, void *value, size_t *bytes))                \
    Y(cl_int, clGetEventInfo, (cl_event event, cl_uint what, size_t room, void *value, size_t *bytes))                   \
    Y(cl_int, clReleaseEvent, (cl_event event))

/* The target's own functions; NULL where it has none. Written once, before any hook is called. */
struct opencl_calls {
#define X(type, name, params) type(*name) params;
    OPENCL_HOOKS(X)
    OPENCL_CALLS(X)
#undef X
};
extern struct opencl_calls below;

/* The layer's answers. */
#define X(type, name, params) type hook_##name params;
OPENCL_HOOKS(X)
#undef X

#endif
