/* SPDX-License-Identifier: Apache-2.0
 *
 * Graphs and captures: part of symbols.h, which includes it.
 */
#ifndef MICA_SIM_CUDA_SYMBOLS_GRAPH_H
#define MICA_SIM_CUDA_SYMBOLS_GRAPH_H

/* A call that adds a node of a type, with what that type needs. */
#define NODE(M, symbol, name, since, ...)                                                                                                  \
    M(symbol, name, since, PLAIN, (CUgraphNode * node, CUgraph graph, const CUgraphNode *after, size_t count, __VA_ARGS__))

#define SYMBOLS_GRAPH(M)                                                                                                                   \
    M(cuGraphCreate, cuGraphCreate, 10000, PLAIN, (CUgraph * graph, unsigned flags))                                                       \
    M(cuUserObjectCreate, cuUserObjectCreate, 11030, PLAIN,                                                                                \
      (CUuserObject * object, void *data, CUhostFn destroy, unsigned references, unsigned flags))                                          \
    M(cuUserObjectRetain, cuUserObjectRetain, 11030, PLAIN, (CUuserObject object, unsigned count))                                         \
    M(cuUserObjectRelease, cuUserObjectRelease, 11030, PLAIN, (CUuserObject object, unsigned count))                                       \
    M(cuGraphRetainUserObject, cuGraphRetainUserObject, 11030, PLAIN, (CUgraph graph, CUuserObject object, unsigned count, unsigned flags))\
    M(cuGraphReleaseUserObject, cuGraphReleaseUserObject, 11030, PLAIN, (CUgraph graph, CUuserObject object, unsigned count))              \
    M(cuGraphDestroy, cuGraphDestroy, 10000, PLAIN, (CUgraph graph))                                                                       \
    M(cuGraphClone, cuGraphClone, 10000, PLAIN, (CUgraph * copy, CUgraph graph))                                                           \
    M(cuGraphNodeFindInClone, cuGraphNodeFindInClone, 10000, PLAIN, (CUgraphNode * found, CUgraphNode node, CUgraph clone))                \
    M(cuGraphDestroyNode, cuGraphDestroyNode, 10000, PLAIN, (CUgraphNode node))                                                            \
    M(cuGraphGetNodes, cuGraphGetNodes, 10000, PLAIN, (CUgraph graph, CUgraphNode * nodes, size_t * count))                                \
    M(cuGraphGetRootNodes, cuGraphGetRootNodes, 10000, PLAIN, (CUgraph graph, CUgraphNode * nodes, size_t * count))                        \
    M(cuGraphGetEdges, cuGraphGetEdges, 10000, PLAIN, (CUgraph graph, CUgraphNode * from, CUgraphNode * to, size_t * count))               \
    M(cuGraphGetEdges_v2, cuGraphGetEdges, 12030, PLAIN,                                                                                   \
      (CUgraph graph, CUgraphNode * from, CUgraphNode * to, CUgraphEdgeData * edges, size_t * count))                                      \
    M(cuGraphNodeGetDependencies, cuGraphNodeGetDependencies, 10000, PLAIN, (CUgraphNode node, CUgraphNode * nodes, size_t * count))       \
    M(cuGraphNodeGetDependencies_v2, cuGraphNodeGetDependencies, 12030, PLAIN,                                                             \
      (CUgraphNode node, CUgraphNode * nodes, CUgraphEdgeData * edges, size_t * count))                                                    \
    M(cuGraphNodeGetDependentNodes, cuGraphNodeGetDependentNodes, 10000, PLAIN, (CUgraphNode node, CUgraphNode * nodes, size_t * count))   \
    M(cuGraphNodeGetDependentNodes_v2, cuGraphNodeGetDependentNodes, 12030, PLAIN,                                                         \
      (CUgraphNode node, CUgraphNode * nodes, CUgraphEdgeData * edges, size_t * count))                                                    \
    M(cuGraphAddDependencies, cuGraphAddDependencies, 10000, PLAIN,                                                                        \
      (CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count))                                                       \
    M(cuGraphAddDependencies_v2, cuGraphAddDependencies, 12030, PLAIN,                                                                     \
      (CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, const CUgraphEdgeData *edges, size_t count))                         \
    M(cuGraphRemoveDependencies, cuGraphRemoveDependencies, 10000, PLAIN,                                                                  \
      (CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count))                                                       \
    M(cuGraphRemoveDependencies_v2, cuGraphRemoveDependencies, 12030, PLAIN,                                                               \
      (CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, const CUgraphEdgeData *edges, size_t count))

#define SYMBOLS_NODE(M)                                                                                                                    \
    NODE(M, cuGraphAddNode, cuGraphAddNode, 12020, CUgraphNodeParams *parameters)                                                          \
    M(cuGraphAddNode_v2, cuGraphAddNode, 12030, PLAIN,                                                                                     \
      (CUgraphNode * node, CUgraph graph, const CUgraphNode *after, const CUgraphEdgeData *edges, size_t count,                            \
       CUgraphNodeParams *parameters))                                                                                                     \
    M(cuGraphAddEmptyNode, cuGraphAddEmptyNode, 10000, PLAIN, (CUgraphNode * node, CUgraph graph, const CUgraphNode *after, size_t count)) \
    NODE(M, cuGraphAddKernelNode, cuGraphAddKernelNode, 10000, const CUDA_KERNEL_NODE_PARAMS *kernel)                                      \
    NODE(M, cuGraphAddKernelNode_v2, cuGraphAddKernelNode, 12000, const CUDA_KERNEL_NODE_PARAMS *kernel)                                   \
    NODE(M, cuGraphAddMemcpyNode, cuGraphAddMemcpyNode, 10000, const CUDA_MEMCPY3D *copy, CUcontext context)                               \
    NODE(M, cuGraphAddMemsetNode, cuGraphAddMemsetNode, 10000, const CUDA_MEMSET_NODE_PARAMS *fill, CUcontext context)                     \
    NODE(M, cuGraphAddHostNode, cuGraphAddHostNode, 10000, const CUDA_HOST_NODE_PARAMS *host)                                              \
    NODE(M, cuGraphAddBatchMemOpNode, cuGraphAddBatchMemOpNode, 11070, const CUDA_BATCH_MEM_OP_NODE_PARAMS *values)                        \
    NODE(M, cuGraphAddChildGraphNode, cuGraphAddChildGraphNode, 10000, CUgraph child)                                                      \
    NODE(M, cuGraphAddEventRecordNode, cuGraphAddEventRecordNode, 11010, CUevent event)                                                    \
    NODE(M, cuGraphAddEventWaitNode, cuGraphAddEventWaitNode, 11010, CUevent event)                                                        \
    NODE(M, cuGraphAddMemAllocNode, cuGraphAddMemAllocNode, 11040, CUDA_MEM_ALLOC_NODE_PARAMS *alloc)                                      \
    NODE(M, cuGraphAddMemFreeNode, cuGraphAddMemFreeNode, 11040, CUdeviceptr address)                                                      \
    M(cuGraphNodeGetType, cuGraphNodeGetType, 10000, PLAIN, (CUgraphNode node, int *type))                                                 \
    M(cuGraphNodeSetParams, cuGraphNodeSetParams, 12020, PLAIN, (CUgraphNode node, CUgraphNodeParams * parameters))                        \
    M(cuGraphKernelNodeGetParams, cuGraphKernelNodeGetParams, 10000, PLAIN, (CUgraphNode node, CUDA_KERNEL_NODE_PARAMS * kernel))          \
    M(cuGraphKernelNodeGetParams_v2, cuGraphKernelNodeGetParams, 12000, PLAIN, (CUgraphNode node, CUDA_KERNEL_NODE_PARAMS * kernel))       \
    M(cuGraphKernelNodeSetParams, cuGraphKernelNodeSetParams, 10000, PLAIN, (CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *kernel))     \
    M(cuGraphKernelNodeSetParams_v2, cuGraphKernelNodeSetParams, 12000, PLAIN, (CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *kernel))  \
    M(cuGraphMemcpyNodeGetParams, cuGraphMemcpyNodeGetParams, 10000, PLAIN, (CUgraphNode node, CUDA_MEMCPY3D * copy))                      \
    M(cuGraphMemcpyNodeSetParams, cuGraphMemcpyNodeSetParams, 10000, PLAIN, (CUgraphNode node, const CUDA_MEMCPY3D *copy))                 \
    M(cuGraphMemsetNodeGetParams, cuGraphMemsetNodeGetParams, 10000, PLAIN, (CUgraphNode node, CUDA_MEMSET_NODE_PARAMS * fill))            \
    M(cuGraphMemsetNodeSetParams, cuGraphMemsetNodeSetParams, 10000, PLAIN, (CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *fill))       \
    M(cuGraphHostNodeGetParams, cuGraphHostNodeGetParams, 10000, PLAIN, (CUgraphNode node, CUDA_HOST_NODE_PARAMS * host))                  \
    M(cuGraphHostNodeSetParams, cuGraphHostNodeSetParams, 10000, PLAIN, (CUgraphNode node, const CUDA_HOST_NODE_PARAMS *host))             \
    M(cuGraphBatchMemOpNodeGetParams, cuGraphBatchMemOpNodeGetParams, 11070, PLAIN,                                                        \
      (CUgraphNode node, CUDA_BATCH_MEM_OP_NODE_PARAMS * values))                                                                          \
    M(cuGraphBatchMemOpNodeSetParams, cuGraphBatchMemOpNodeSetParams, 11070, PLAIN,                                                        \
      (CUgraphNode node, const CUDA_BATCH_MEM_OP_NODE_PARAMS *values))                                                                     \
    M(cuGraphChildGraphNodeGetGraph, cuGraphChildGraphNodeGetGraph, 10000, PLAIN, (CUgraphNode node, CUgraph * graph))                     \
    M(cuGraphEventRecordNodeGetEvent, cuGraphEventRecordNodeGetEvent, 11010, PLAIN, (CUgraphNode node, CUevent * event))                   \
    M(cuGraphEventRecordNodeSetEvent, cuGraphEventRecordNodeSetEvent, 11010, PLAIN, (CUgraphNode node, CUevent event))                     \
    M(cuGraphEventWaitNodeGetEvent, cuGraphEventWaitNodeGetEvent, 11010, PLAIN, (CUgraphNode node, CUevent * event))                       \
    M(cuGraphEventWaitNodeSetEvent, cuGraphEventWaitNodeSetEvent, 11010, PLAIN, (CUgraphNode node, CUevent event))                         \
    M(cuGraphMemAllocNodeGetParams, cuGraphMemAllocNodeGetParams, 11040, PLAIN, (CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS * alloc))    \
    M(cuGraphMemFreeNodeGetParams, cuGraphMemFreeNodeGetParams, 11040, PLAIN, (CUgraphNode node, CUdeviceptr * address))                   \
    M(cuDeviceGetGraphMemAttribute, cuDeviceGetGraphMemAttribute, 11040, PLAIN, (CUdevice device, int attribute, void *value))             \
    M(cuDeviceSetGraphMemAttribute, cuDeviceSetGraphMemAttribute, 11040, PLAIN, (CUdevice device, int attribute, void *value))             \
    M(cuDeviceGraphMemTrim, cuDeviceGraphMemTrim, 11040, PLAIN, (CUdevice device))

#define INSTANTIATE_PARAMETERS (CUgraphExec * exec, CUgraph graph, CUgraphNode * node, char *log, size_t bytes)

#define SYMBOLS_EXEC(M)                                                                                                                    \
    M(cuGraphInstantiate, cuGraphInstantiate, 10000, PLAIN, INSTANTIATE_PARAMETERS)                                                        \
    M(cuGraphInstantiate_v2, cuGraphInstantiate, 11000, PLAIN, INSTANTIATE_PARAMETERS)                                                     \
    M(cuGraphInstantiateWithFlags, cuGraphInstantiate, 12000, PLAIN, (CUgraphExec * exec, CUgraph graph, unsigned long long flags))        \
    M(cuGraphInstantiateWithFlags, cuGraphInstantiateWithFlags, 11040, PLAIN,                                                              \
      (CUgraphExec * exec, CUgraph graph, unsigned long long flags))                                                                       \
    Z(M, cuGraphInstantiateWithParams, cuGraphInstantiateWithParams, 12000, 12000,                                                         \
      (CUgraphExec * exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS * parameters))                                                     \
    M(cuGraphExecDestroy, cuGraphExecDestroy, 10000, PLAIN, (CUgraphExec exec))                                                            \
    M(cuGraphExecGetFlags, cuGraphExecGetFlags, 12000, PLAIN, (CUgraphExec exec, uint64_t * flags))                                        \
    M(cuGraphExecUpdate, cuGraphExecUpdate, 10020, PLAIN, (CUgraphExec exec, CUgraph graph, CUgraphNode * node, int *why))                 \
    M(cuGraphExecUpdate_v2, cuGraphExecUpdate, 12000, PLAIN, (CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo * info))        \
    M(cuGraphExecNodeSetParams, cuGraphExecNodeSetParams, 12020, PLAIN,                                                                    \
      (CUgraphExec exec, CUgraphNode node, CUgraphNodeParams * parameters))                                                                \
    M(cuGraphExecKernelNodeSetParams, cuGraphExecKernelNodeSetParams, 10010, PLAIN,                                                        \
      (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *kernel))                                                         \
    M(cuGraphExecKernelNodeSetParams_v2, cuGraphExecKernelNodeSetParams, 12000, PLAIN,                                                     \
      (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *kernel))                                                         \
    M(cuGraphExecMemcpyNodeSetParams, cuGraphExecMemcpyNodeSetParams, 10020, PLAIN,                                                        \
      (CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D *copy, CUcontext context))                                                  \
    M(cuGraphExecMemsetNodeSetParams, cuGraphExecMemsetNodeSetParams, 10020, PLAIN,                                                        \
      (CUgraphExec exec, CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *fill, CUcontext context))                                        \
    M(cuGraphExecHostNodeSetParams, cuGraphExecHostNodeSetParams, 10020, PLAIN,                                                            \
      (CUgraphExec exec, CUgraphNode node, const CUDA_HOST_NODE_PARAMS *host))                                                             \
    M(cuGraphExecBatchMemOpNodeSetParams, cuGraphExecBatchMemOpNodeSetParams, 11070, PLAIN,                                                \
      (CUgraphExec exec, CUgraphNode node, const CUDA_BATCH_MEM_OP_NODE_PARAMS *values))                                                   \
    M(cuGraphExecChildGraphNodeSetParams, cuGraphExecChildGraphNodeSetParams, 11010, PLAIN,                                                \
      (CUgraphExec exec, CUgraphNode node, CUgraph child))                                                                                 \
    M(cuGraphExecEventRecordNodeSetEvent, cuGraphExecEventRecordNodeSetEvent, 11010, PLAIN,                                                \
      (CUgraphExec exec, CUgraphNode node, CUevent event))                                                                                 \
    M(cuGraphExecEventWaitNodeSetEvent, cuGraphExecEventWaitNodeSetEvent, 11010, PLAIN,                                                    \
      (CUgraphExec exec, CUgraphNode node, CUevent event))                                                                                 \
    M(cuGraphNodeSetEnabled, cuGraphNodeSetEnabled, 11060, PLAIN, (CUgraphExec exec, CUgraphNode node, unsigned enabled))                  \
    M(cuGraphNodeGetEnabled, cuGraphNodeGetEnabled, 11060, PLAIN, (CUgraphExec exec, CUgraphNode node, unsigned *enabled))                 \
    Z(M, cuGraphLaunch, cuGraphLaunch, 10000, 10000, (CUgraphExec exec, CUstream stream))                                                  \
    Z(M, cuGraphUpload, cuGraphUpload, 11010, 11010, (CUgraphExec exec, CUstream stream))

#define SYMBOLS_CAPTURE(M)                                                                                                                 \
    Z(M, cuStreamBeginCapture, cuStreamBeginCapture, 10000, 10000, (CUstream stream))                                                      \
    Z(M, cuStreamBeginCapture_v2, cuStreamBeginCapture, 10010, 10010, (CUstream stream, int mode))                                         \
    Z(M, cuStreamBeginCaptureToGraph, cuStreamBeginCaptureToGraph, 12030, 12030,                                                           \
      (CUstream stream, CUgraph graph, const CUgraphNode *nodes, const CUgraphEdgeData *edges, size_t count, int mode))                    \
    Z(M, cuStreamEndCapture, cuStreamEndCapture, 10000, 10000, (CUstream stream, CUgraph * graph))                                         \
    Z(M, cuStreamIsCapturing, cuStreamIsCapturing, 10000, 10000, (CUstream stream, int *status))                                           \
    Z(M, cuStreamGetCaptureInfo, cuStreamGetCaptureInfo, 10010, 10010, (CUstream stream, int *status, uint64_t *id))                       \
    Z(M, cuStreamGetCaptureInfo_v2, cuStreamGetCaptureInfo, 11030, 11030,                                                                  \
      (CUstream stream, int *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes, size_t *count))                              \
    Z(M, cuStreamGetCaptureInfo_v3, cuStreamGetCaptureInfo, 12030, 12030,                                                                  \
      (CUstream stream, int *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes, const CUgraphEdgeData **edges, size_t *count)) \
    Z(M, cuStreamUpdateCaptureDependencies, cuStreamUpdateCaptureDependencies, 11030, 11030,                                               \
      (CUstream stream, CUgraphNode * nodes, size_t count, unsigned flags))                                                                \
    Z(M, cuStreamUpdateCaptureDependencies_v2, cuStreamUpdateCaptureDependencies, 12030, 12030,                                            \
      (CUstream stream, CUgraphNode * nodes, const CUgraphEdgeData *edges, size_t count, unsigned flags))                                  \
    M(cuThreadExchangeStreamCaptureMode, cuThreadExchangeStreamCaptureMode, 10010, PLAIN, (int *mode))

#endif
