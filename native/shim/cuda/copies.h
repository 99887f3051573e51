/* SPDX-License-Identifier: Apache-2.0
 *
 * Every call that moves or fills memory, in one table: what a copy bandwidth limit is charged for. hooks.h takes the hooks from it, copy.c what they do.
 *
 *     C(X, name, parameters, arguments, base, since, stream kind, stream, bytes)
 *
 * stream: where the copy is put, for the question whether it is recorded there instead; NO_STREAM for calls that return when they are done.
 */
#ifndef MICA_SHIM_CUDA_COPIES_H
#define MICA_SHIM_CUDA_COPIES_H

/* clang-format off */
#define COPIES_SYNC(C, X) \
    C(X, cuMemcpy, (CUdeviceptr to, CUdeviceptr from, size_t bytes), (to, from, bytes), cuMemcpy, 4000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpy_ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes), (to, from, bytes), cuMemcpy, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpyPeer, (CUdeviceptr to, CUcontext there, CUdeviceptr from, CUcontext here, size_t bytes), (to, there, from, here, bytes), cuMemcpyPeer, 4000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyPeer_ptds, (CUdeviceptr to, CUcontext there, CUdeviceptr from, CUcontext here, size_t bytes), (to, there, from, here, bytes), cuMemcpyPeer, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpyHtoD, (CUdeviceptr_v1 to, const void *from, unsigned int bytes), (to, from, bytes), cuMemcpyHtoD, 2000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes), (to, from, bytes), cuMemcpyHtoD, 3020, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyHtoD_v2_ptds, (CUdeviceptr to, const void *from, size_t bytes), (to, from, bytes), cuMemcpyHtoD, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpyDtoH, (void *to, CUdeviceptr_v1 from, unsigned int bytes), (to, from, bytes), cuMemcpyDtoH, 2000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyDtoH_v2, (void *to, CUdeviceptr from, size_t bytes), (to, from, bytes), cuMemcpyDtoH, 3020, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyDtoH_v2_ptds, (void *to, CUdeviceptr from, size_t bytes), (to, from, bytes), cuMemcpyDtoH, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpyDtoD, (CUdeviceptr_v1 to, CUdeviceptr_v1 from, unsigned int bytes), (to, from, bytes), cuMemcpyDtoD, 2000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyDtoD_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes), (to, from, bytes), cuMemcpyDtoD, 3020, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyDtoD_v2_ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes), (to, from, bytes), cuMemcpyDtoD, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpyDtoA, (CUarray to, unsigned int offset, CUdeviceptr_v1 from, unsigned int bytes), (to, offset, from, bytes), cuMemcpyDtoA, 2000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyDtoA_v2, (CUarray to, size_t offset, CUdeviceptr from, size_t bytes), (to, offset, from, bytes), cuMemcpyDtoA, 3020, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyDtoA_v2_ptds, (CUarray to, size_t offset, CUdeviceptr from, size_t bytes), (to, offset, from, bytes), cuMemcpyDtoA, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpyAtoD, (CUdeviceptr_v1 to, CUarray from, unsigned int offset, unsigned int bytes), (to, from, offset, bytes), cuMemcpyAtoD, 2000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyAtoD_v2, (CUdeviceptr to, CUarray from, size_t offset, size_t bytes), (to, from, offset, bytes), cuMemcpyAtoD, 3020, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyAtoD_v2_ptds, (CUdeviceptr to, CUarray from, size_t offset, size_t bytes), (to, from, offset, bytes), cuMemcpyAtoD, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpyHtoA, (CUarray to, unsigned int offset, const void *from, unsigned int bytes), (to, offset, from, bytes), cuMemcpyHtoA, 2000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyHtoA_v2, (CUarray to, size_t offset, const void *from, size_t bytes), (to, offset, from, bytes), cuMemcpyHtoA, 3020, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyHtoA_v2_ptds, (CUarray to, size_t offset, const void *from, size_t bytes), (to, offset, from, bytes), cuMemcpyHtoA, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpyAtoH, (void *to, CUarray from, unsigned int offset, unsigned int bytes), (to, from, offset, bytes), cuMemcpyAtoH, 2000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyAtoH_v2, (void *to, CUarray from, size_t offset, size_t bytes), (to, from, offset, bytes), cuMemcpyAtoH, 3020, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyAtoH_v2_ptds, (void *to, CUarray from, size_t offset, size_t bytes), (to, from, offset, bytes), cuMemcpyAtoH, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpyAtoA, (CUarray to, unsigned int offset, CUarray from, unsigned int start, unsigned int bytes), (to, offset, from, start, bytes), cuMemcpyAtoA, 2000, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyAtoA_v2, (CUarray to, size_t offset, CUarray from, size_t start, size_t bytes), (to, offset, from, start, bytes), cuMemcpyAtoA, 3020, LEGACY, NO_STREAM, bytes) \
    C(X, cuMemcpyAtoA_v2_ptds, (CUarray to, size_t offset, CUarray from, size_t start, size_t bytes), (to, offset, from, start, bytes), cuMemcpyAtoA, 7000, PER_THREAD, NO_STREAM, bytes) \
    C(X, cuMemcpy2D, (const CUDA_MEMCPY2D_v1 *copy), (copy), cuMemcpy2D, 2000, LEGACY, NO_STREAM, BOX_2D(copy)) \
    C(X, cuMemcpy2D_v2, (const CUDA_MEMCPY2D *copy), (copy), cuMemcpy2D, 3020, LEGACY, NO_STREAM, BOX_2D(copy)) \
    C(X, cuMemcpy2D_v2_ptds, (const CUDA_MEMCPY2D *copy), (copy), cuMemcpy2D, 7000, PER_THREAD, NO_STREAM, BOX_2D(copy)) \
    C(X, cuMemcpy2DUnaligned, (const CUDA_MEMCPY2D_v1 *copy), (copy), cuMemcpy2DUnaligned, 2000, LEGACY, NO_STREAM, BOX_2D(copy)) \
    C(X, cuMemcpy2DUnaligned_v2, (const CUDA_MEMCPY2D *copy), (copy), cuMemcpy2DUnaligned, 3020, LEGACY, NO_STREAM, BOX_2D(copy)) \
    C(X, cuMemcpy2DUnaligned_v2_ptds, (const CUDA_MEMCPY2D *copy), (copy), cuMemcpy2DUnaligned, 7000, PER_THREAD, NO_STREAM, BOX_2D(copy)) \
    C(X, cuMemcpy3D, (const CUDA_MEMCPY3D_v1 *copy), (copy), cuMemcpy3D, 2000, LEGACY, NO_STREAM, BOX_3D(copy)) \
    C(X, cuMemcpy3D_v2, (const CUDA_MEMCPY3D *copy), (copy), cuMemcpy3D, 3020, LEGACY, NO_STREAM, BOX_3D(copy)) \
    C(X, cuMemcpy3D_v2_ptds, (const CUDA_MEMCPY3D *copy), (copy), cuMemcpy3D, 7000, PER_THREAD, NO_STREAM, BOX_3D(copy)) \
    C(X, cuMemcpy3DPeer, (const CUDA_MEMCPY3D *copy), (copy), cuMemcpy3DPeer, 4000, LEGACY, NO_STREAM, BOX_3D(copy)) \
    C(X, cuMemcpy3DPeer_ptds, (const CUDA_MEMCPY3D *copy), (copy), cuMemcpy3DPeer, 7000, PER_THREAD, NO_STREAM, BOX_3D(copy)) \
    C(X, cuMemsetD8, (CUdeviceptr_v1 to, unsigned char value, unsigned int count), (to, value, count), cuMemsetD8, 2000, LEGACY, NO_STREAM, (uint64_t)count) \
    C(X, cuMemsetD8_v2, (CUdeviceptr to, unsigned char value, size_t count), (to, value, count), cuMemsetD8, 3020, LEGACY, NO_STREAM, count) \
    C(X, cuMemsetD8_v2_ptds, (CUdeviceptr to, unsigned char value, size_t count), (to, value, count), cuMemsetD8, 7000, PER_THREAD, NO_STREAM, count) \
    C(X, cuMemsetD2D8, (CUdeviceptr_v1 to, unsigned int pitch, unsigned char value, unsigned int width, unsigned int height), (to, pitch, value, width, height), cuMemsetD2D8, 2000, LEGACY, NO_STREAM, (uint64_t)width * height) \
    C(X, cuMemsetD2D8_v2, (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height), (to, pitch, value, width, height), cuMemsetD2D8, 3020, LEGACY, NO_STREAM, width * height) \
    C(X, cuMemsetD2D8_v2_ptds, (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height), (to, pitch, value, width, height), cuMemsetD2D8, 7000, PER_THREAD, NO_STREAM, width * height) \
    C(X, cuMemsetD16, (CUdeviceptr_v1 to, unsigned short value, unsigned int count), (to, value, count), cuMemsetD16, 2000, LEGACY, NO_STREAM, (uint64_t)count * 2) \
    C(X, cuMemsetD16_v2, (CUdeviceptr to, unsigned short value, size_t count), (to, value, count), cuMemsetD16, 3020, LEGACY, NO_STREAM, count * 2) \
    C(X, cuMemsetD16_v2_ptds, (CUdeviceptr to, unsigned short value, size_t count), (to, value, count), cuMemsetD16, 7000, PER_THREAD, NO_STREAM, count * 2) \
    C(X, cuMemsetD2D16, (CUdeviceptr_v1 to, unsigned int pitch, unsigned short value, unsigned int width, unsigned int height), (to, pitch, value, width, height), cuMemsetD2D16, 2000, LEGACY, NO_STREAM, (uint64_t)width * height * 2) \
    C(X, cuMemsetD2D16_v2, (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height), (to, pitch, value, width, height), cuMemsetD2D16, 3020, LEGACY, NO_STREAM, width * height * 2) \
    C(X, cuMemsetD2D16_v2_ptds, (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height), (to, pitch, value, width, height), cuMemsetD2D16, 7000, PER_THREAD, NO_STREAM, width * height * 2) \
    C(X, cuMemsetD32, (CUdeviceptr_v1 to, unsigned int value, unsigned int count), (to, value, count), cuMemsetD32, 2000, LEGACY, NO_STREAM, (uint64_t)count * 4) \
    C(X, cuMemsetD32_v2, (CUdeviceptr to, unsigned int value, size_t count), (to, value, count), cuMemsetD32, 3020, LEGACY, NO_STREAM, count * 4) \
    C(X, cuMemsetD32_v2_ptds, (CUdeviceptr to, unsigned int value, size_t count), (to, value, count), cuMemsetD32, 7000, PER_THREAD, NO_STREAM, count * 4) \
    C(X, cuMemsetD2D32, (CUdeviceptr_v1 to, unsigned int pitch, unsigned int value, unsigned int width, unsigned int height), (to, pitch, value, width, height), cuMemsetD2D32, 2000, LEGACY, NO_STREAM, (uint64_t)width * height * 4) \
    C(X, cuMemsetD2D32_v2, (CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height), (to, pitch, value, width, height), cuMemsetD2D32, 3020, LEGACY, NO_STREAM, width * height * 4) \
    C(X, cuMemsetD2D32_v2_ptds, (CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height), (to, pitch, value, width, height), cuMemsetD2D32, 7000, PER_THREAD, NO_STREAM, width * height * 4)

#define COPIES_ASYNC(C, X) \
    C(X, cuMemcpyAsync, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyAsync, 4000, LEGACY, stream, bytes) \
    C(X, cuMemcpyAsync_ptsz, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyAsync, 7000, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemcpyPeerAsync, (CUdeviceptr to, CUcontext there, CUdeviceptr from, CUcontext here, size_t bytes, CUstream stream), (to, there, from, here, bytes, stream), cuMemcpyPeerAsync, 4000, LEGACY, stream, bytes) \
    C(X, cuMemcpyPeerAsync_ptsz, (CUdeviceptr to, CUcontext there, CUdeviceptr from, CUcontext here, size_t bytes, CUstream stream), (to, there, from, here, bytes, stream), cuMemcpyPeerAsync, 7000, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemcpyHtoDAsync, (CUdeviceptr_v1 to, const void *from, unsigned int bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyHtoDAsync, 2000, LEGACY, stream, bytes) \
    C(X, cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyHtoDAsync, 3020, LEGACY, stream, bytes) \
    C(X, cuMemcpyHtoDAsync_v2_ptsz, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyHtoDAsync, 7000, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemcpyDtoHAsync, (void *to, CUdeviceptr_v1 from, unsigned int bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyDtoHAsync, 2000, LEGACY, stream, bytes) \
    C(X, cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyDtoHAsync, 3020, LEGACY, stream, bytes) \
    C(X, cuMemcpyDtoHAsync_v2_ptsz, (void *to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyDtoHAsync, 7000, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemcpyDtoDAsync, (CUdeviceptr_v1 to, CUdeviceptr_v1 from, unsigned int bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyDtoDAsync, 2000, LEGACY, stream, bytes) \
    C(X, cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyDtoDAsync, 3020, LEGACY, stream, bytes) \
    C(X, cuMemcpyDtoDAsync_v2_ptsz, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream), cuMemcpyDtoDAsync, 7000, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemcpyHtoAAsync, (CUarray to, unsigned int offset, const void *from, unsigned int bytes, CUstream stream), (to, offset, from, bytes, stream), cuMemcpyHtoAAsync, 2000, LEGACY, stream, bytes) \
    C(X, cuMemcpyHtoAAsync_v2, (CUarray to, size_t offset, const void *from, size_t bytes, CUstream stream), (to, offset, from, bytes, stream), cuMemcpyHtoAAsync, 3020, LEGACY, stream, bytes) \
    C(X, cuMemcpyHtoAAsync_v2_ptsz, (CUarray to, size_t offset, const void *from, size_t bytes, CUstream stream), (to, offset, from, bytes, stream), cuMemcpyHtoAAsync, 7000, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemcpyAtoHAsync, (void *to, CUarray from, unsigned int offset, unsigned int bytes, CUstream stream), (to, from, offset, bytes, stream), cuMemcpyAtoHAsync, 2000, LEGACY, stream, bytes) \
    C(X, cuMemcpyAtoHAsync_v2, (void *to, CUarray from, size_t offset, size_t bytes, CUstream stream), (to, from, offset, bytes, stream), cuMemcpyAtoHAsync, 3020, LEGACY, stream, bytes) \
    C(X, cuMemcpyAtoHAsync_v2_ptsz, (void *to, CUarray from, size_t offset, size_t bytes, CUstream stream), (to, from, offset, bytes, stream), cuMemcpyAtoHAsync, 7000, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemcpy2DAsync, (const CUDA_MEMCPY2D_v1 *copy, CUstream stream), (copy, stream), cuMemcpy2DAsync, 2000, LEGACY, stream, BOX_2D(copy)) \
    C(X, cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *copy, CUstream stream), (copy, stream), cuMemcpy2DAsync, 3020, LEGACY, stream, BOX_2D(copy)) \
    C(X, cuMemcpy2DAsync_v2_ptsz, (const CUDA_MEMCPY2D *copy, CUstream stream), (copy, stream), cuMemcpy2DAsync, 7000, PER_THREAD, per_thread(stream), BOX_2D(copy)) \
    C(X, cuMemcpy3DAsync, (const CUDA_MEMCPY3D_v1 *copy, CUstream stream), (copy, stream), cuMemcpy3DAsync, 2000, LEGACY, stream, BOX_3D(copy)) \
    C(X, cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D *copy, CUstream stream), (copy, stream), cuMemcpy3DAsync, 3020, LEGACY, stream, BOX_3D(copy)) \
    C(X, cuMemcpy3DAsync_v2_ptsz, (const CUDA_MEMCPY3D *copy, CUstream stream), (copy, stream), cuMemcpy3DAsync, 7000, PER_THREAD, per_thread(stream), BOX_3D(copy)) \
    C(X, cuMemcpy3DPeerAsync, (const CUDA_MEMCPY3D *copy, CUstream stream), (copy, stream), cuMemcpy3DPeerAsync, 4000, LEGACY, stream, BOX_3D(copy)) \
    C(X, cuMemcpy3DPeerAsync_ptsz, (const CUDA_MEMCPY3D *copy, CUstream stream), (copy, stream), cuMemcpy3DPeerAsync, 7000, PER_THREAD, per_thread(stream), BOX_3D(copy)) \
    C(X, cuMemcpyBatchAsync, (CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, void *attributes, size_t *indices, size_t attribute_count, size_t *failed, CUstream stream), (to, from, sizes, count, attributes, indices, attribute_count, failed, stream), cuMemcpyBatchAsync, 12080, LEGACY, stream, sizes_sum(sizes, count)) \
    C(X, cuMemcpyBatchAsync_ptsz, (CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, void *attributes, size_t *indices, size_t attribute_count, size_t *failed, CUstream stream), (to, from, sizes, count, attributes, indices, attribute_count, failed, stream), cuMemcpyBatchAsync, 12080, PER_THREAD, per_thread(stream), sizes_sum(sizes, count)) \
    C(X, cuMemcpyBatchAsync_v2, (CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, void *attributes, size_t *indices, size_t attribute_count, CUstream stream), (to, from, sizes, count, attributes, indices, attribute_count, stream), cuMemcpyBatchAsync, 13000, LEGACY, stream, sizes_sum(sizes, count)) \
    C(X, cuMemcpyBatchAsync_v2_ptsz, (CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, void *attributes, size_t *indices, size_t attribute_count, CUstream stream), (to, from, sizes, count, attributes, indices, attribute_count, stream), cuMemcpyBatchAsync, 13000, PER_THREAD, per_thread(stream), sizes_sum(sizes, count)) \
    C(X, cuMemcpy3DBatchAsync, (size_t count, CUDA_MEMCPY3D_BATCH_OP *copies, size_t *failed, unsigned long long flags, CUstream stream), (count, copies, failed, flags, stream), cuMemcpy3DBatchAsync, 12080, LEGACY, stream, boxes_sum(copies, count)) \
    C(X, cuMemcpy3DBatchAsync_ptsz, (size_t count, CUDA_MEMCPY3D_BATCH_OP *copies, size_t *failed, unsigned long long flags, CUstream stream), (count, copies, failed, flags, stream), cuMemcpy3DBatchAsync, 12080, PER_THREAD, per_thread(stream), boxes_sum(copies, count)) \
    C(X, cuMemcpy3DBatchAsync_v2, (size_t count, CUDA_MEMCPY3D_BATCH_OP *copies, unsigned long long flags, CUstream stream), (count, copies, flags, stream), cuMemcpy3DBatchAsync, 13000, LEGACY, stream, boxes_sum(copies, count)) \
    C(X, cuMemcpy3DBatchAsync_v2_ptsz, (size_t count, CUDA_MEMCPY3D_BATCH_OP *copies, unsigned long long flags, CUstream stream), (count, copies, flags, stream), cuMemcpy3DBatchAsync, 13000, PER_THREAD, per_thread(stream), boxes_sum(copies, count)) \
    C(X, cuMemcpyWithAttributesAsync, (CUdeviceptr to, CUdeviceptr from, size_t bytes, void *attributes, CUstream stream), (to, from, bytes, attributes, stream), cuMemcpyWithAttributesAsync, 13020, LEGACY, stream, bytes) \
    C(X, cuMemcpyWithAttributesAsync_ptsz, (CUdeviceptr to, CUdeviceptr from, size_t bytes, void *attributes, CUstream stream), (to, from, bytes, attributes, stream), cuMemcpyWithAttributesAsync, 13020, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemcpy3DWithAttributesAsync, (CUDA_MEMCPY3D_BATCH_OP *copy, unsigned long long flags, CUstream stream), (copy, flags, stream), cuMemcpy3DWithAttributesAsync, 13020, LEGACY, stream, boxes_sum(copy, 1)) \
    C(X, cuMemcpy3DWithAttributesAsync_ptsz, (CUDA_MEMCPY3D_BATCH_OP *copy, unsigned long long flags, CUstream stream), (copy, flags, stream), cuMemcpy3DWithAttributesAsync, 13020, PER_THREAD, per_thread(stream), boxes_sum(copy, 1)) \
    C(X, cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream), (to, value, count, stream), cuMemsetD8Async, 3020, LEGACY, stream, count) \
    C(X, cuMemsetD8Async_ptsz, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream), (to, value, count, stream), cuMemsetD8Async, 7000, PER_THREAD, per_thread(stream), count) \
    C(X, cuMemsetD2D8Async, (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height, CUstream stream), (to, pitch, value, width, height, stream), cuMemsetD2D8Async, 3020, LEGACY, stream, width * height) \
    C(X, cuMemsetD2D8Async_ptsz, (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height, CUstream stream), (to, pitch, value, width, height, stream), cuMemsetD2D8Async, 7000, PER_THREAD, per_thread(stream), width * height) \
    C(X, cuMemsetD16Async, (CUdeviceptr to, unsigned short value, size_t count, CUstream stream), (to, value, count, stream), cuMemsetD16Async, 3020, LEGACY, stream, count * 2) \
    C(X, cuMemsetD16Async_ptsz, (CUdeviceptr to, unsigned short value, size_t count, CUstream stream), (to, value, count, stream), cuMemsetD16Async, 7000, PER_THREAD, per_thread(stream), count * 2) \
    C(X, cuMemsetD2D16Async, (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height, CUstream stream), (to, pitch, value, width, height, stream), cuMemsetD2D16Async, 3020, LEGACY, stream, width * height * 2) \
    C(X, cuMemsetD2D16Async_ptsz, (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height, CUstream stream), (to, pitch, value, width, height, stream), cuMemsetD2D16Async, 7000, PER_THREAD, per_thread(stream), width * height * 2) \
    C(X, cuMemsetD32Async, (CUdeviceptr to, unsigned int value, size_t count, CUstream stream), (to, value, count, stream), cuMemsetD32Async, 3020, LEGACY, stream, count * 4) \
    C(X, cuMemsetD32Async_ptsz, (CUdeviceptr to, unsigned int value, size_t count, CUstream stream), (to, value, count, stream), cuMemsetD32Async, 7000, PER_THREAD, per_thread(stream), count * 4) \
    C(X, cuMemsetD2D32Async, (CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height, CUstream stream), (to, pitch, value, width, height, stream), cuMemsetD2D32Async, 3020, LEGACY, stream, width * height * 4) \
    C(X, cuMemsetD2D32Async_ptsz, (CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height, CUstream stream), (to, pitch, value, width, height, stream), cuMemsetD2D32Async, 7000, PER_THREAD, per_thread(stream), width * height * 4) \
    C(X, cuMemPrefetchAsync, (CUdeviceptr address, size_t bytes, CUdevice where, CUstream stream), (address, bytes, where, stream), cuMemPrefetchAsync, 8000, LEGACY, stream, bytes) \
    C(X, cuMemPrefetchAsync_ptsz, (CUdeviceptr address, size_t bytes, CUdevice where, CUstream stream), (address, bytes, where, stream), cuMemPrefetchAsync, 8000, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemPrefetchAsync_v2, (CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned int flags, CUstream stream), (address, bytes, location, flags, stream), cuMemPrefetchAsync, 12020, LEGACY, stream, bytes) \
    C(X, cuMemPrefetchAsync_v2_ptsz, (CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned int flags, CUstream stream), (address, bytes, location, flags, stream), cuMemPrefetchAsync, 12020, PER_THREAD, per_thread(stream), bytes) \
    C(X, cuMemPrefetchBatchAsync, (CUdeviceptr *addresses, size_t *sizes, size_t count, CUmemLocation *locations, size_t *indices, size_t location_count, unsigned long long flags, CUstream stream), (addresses, sizes, count, locations, indices, location_count, flags, stream), cuMemPrefetchBatchAsync, 13000, LEGACY, stream, sizes_sum(sizes, count)) \
    C(X, cuMemPrefetchBatchAsync_ptsz, (CUdeviceptr *addresses, size_t *sizes, size_t count, CUmemLocation *locations, size_t *indices, size_t location_count, unsigned long long flags, CUstream stream), (addresses, sizes, count, locations, indices, location_count, flags, stream), cuMemPrefetchBatchAsync, 13000, PER_THREAD, per_thread(stream), sizes_sum(sizes, count)) \
    C(X, cuMemDiscardAndPrefetchBatchAsync, (CUdeviceptr *addresses, size_t *sizes, size_t count, CUmemLocation *locations, size_t *indices, size_t location_count, unsigned long long flags, CUstream stream), (addresses, sizes, count, locations, indices, location_count, flags, stream), cuMemDiscardAndPrefetchBatchAsync, 13000, LEGACY, stream, sizes_sum(sizes, count)) \
    C(X, cuMemDiscardAndPrefetchBatchAsync_ptsz, (CUdeviceptr *addresses, size_t *sizes, size_t count, CUmemLocation *locations, size_t *indices, size_t location_count, unsigned long long flags, CUstream stream), (addresses, sizes, count, locations, indices, location_count, flags, stream), cuMemDiscardAndPrefetchBatchAsync, 13000, PER_THREAD, per_thread(stream), sizes_sum(sizes, count))

#define COPIES(C, X) COPIES_SYNC(C, X) COPIES_ASYNC(C, X)
/* clang-format on */

#endif
