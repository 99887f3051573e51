/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts, queues, buffers and events: as much as a program needs to hold memory and to move bytes.
 */
#ifndef MICA_SIM_OPENCL_OBJECTS_H
#define MICA_SIM_OPENCL_OBJECTS_H

#include "platform.h"

/* The calls of objects.c that stand in the table. */
#define SIM_OBJECT_CALLS(X)                                                                                                        \
    X(clCreateContext) X(clRetainContext) X(clReleaseContext) X(clGetContextInfo)                                                  \
    X(clCreateCommandQueue) X(clRetainCommandQueue) X(clReleaseCommandQueue) X(clGetCommandQueueInfo)                              \
    X(clCreateBuffer) X(clRetainMemObject) X(clReleaseMemObject) X(clGetMemObjectInfo) X(clSetMemObjectDestructorCallback)         \
    X(clEnqueueReadBuffer) X(clEnqueueWriteBuffer) X(clFlush) X(clFinish)                                                          \
    X(clWaitForEvents) X(clRetainEvent) X(clReleaseEvent) X(clGetEventInfo) X(clGetEventProfilingInfo) X(clSetEventCallback)

cl_context sim_clCreateContext(const cl_context_properties *properties, cl_uint count, const cl_device_id *devices, cl_notify notify, void *user,
                               cl_int *error);
cl_int sim_clRetainContext(cl_context context);
cl_int sim_clReleaseContext(cl_context context);
cl_int sim_clGetContextInfo(cl_context context, cl_uint what, size_t room, void *value, size_t *bytes);
cl_command_queue sim_clCreateCommandQueue(cl_context context, cl_device_id device, cl_bitfield properties, cl_int *error);
cl_int sim_clRetainCommandQueue(cl_command_queue queue);
cl_int sim_clReleaseCommandQueue(cl_command_queue queue);
cl_int sim_clGetCommandQueueInfo(cl_command_queue queue, cl_uint what, size_t room, void *value, size_t *bytes);
cl_mem sim_clCreateBuffer(cl_context context, cl_bitfield flags, size_t size, void *host, cl_int *error);
cl_int sim_clRetainMemObject(cl_mem memory);
cl_int sim_clReleaseMemObject(cl_mem memory);
cl_int sim_clGetMemObjectInfo(cl_mem memory, cl_uint what, size_t room, void *value, size_t *bytes);
cl_int sim_clSetMemObjectDestructorCallback(cl_mem memory, cl_mem_notify notify, void *user);
cl_int sim_clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, void *to, DONE);
cl_int sim_clEnqueueWriteBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, const void *from, DONE);
cl_int sim_clFlush(cl_command_queue queue);
cl_int sim_clFinish(cl_command_queue queue);
cl_int sim_clWaitForEvents(cl_uint count, const cl_event *events);
cl_int sim_clRetainEvent(cl_event event);
cl_int sim_clReleaseEvent(cl_event event);
cl_int sim_clGetEventInfo(cl_event event, cl_uint what, size_t room, void *value, size_t *bytes);
cl_int sim_clGetEventProfilingInfo(cl_event event, cl_uint what, size_t room, void *value, size_t *bytes);
cl_int sim_clSetEventCallback(cl_event event, cl_int status, cl_event_notify notify, void *user);

#endif
