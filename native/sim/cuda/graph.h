/* SPDX-License-Identifier: Apache-2.0
 *
 * Graphs: work that is described first and started later, any number of times.
 *
 * A graph owns its nodes; a node knows the nodes that it comes after. An executable graph is a copy of a graph whose nodes
 * stand in an order in which they can be started; a copy's node knows which node it was made from. All of it is under the
 * driver lock.
 */
#ifndef MICA_SIM_CUDA_GRAPH_H
#define MICA_SIM_CUDA_GRAPH_H

#include "driver.h"

enum { MARK_GRAPH = 0x47524631, MARK_NODE = 0x4e4f4431, MARK_EXEC = 0x45584331, MARK_CAPTURE = 0x43415031, MARK_USER_OBJECT = 0x55534f31 };

enum sim_node_type {
    NODE_KERNEL, NODE_COPY, NODE_FILL, NODE_HOST, NODE_CHILD, NODE_EMPTY, NODE_WAIT, NODE_RECORD, NODE_SIGNAL_EXTERNAL, NODE_WAIT_EXTERNAL,
    NODE_ALLOC, NODE_FREE, NODE_VALUES, NODE_CONDITIONAL
};

/* Memory that a graph allocates, and perhaps frees: its addresses are there as long as a node or its contents are. */
struct sim_graph_block {
    CUdeviceptr address;
    size_t bytes;        /* as asked */
    size_t granule_bytes;
    int device;
    unsigned nodes;                /* that name it */
    struct sim_physical *physical; /* NULL: not allocated now */
    struct sim_graph_block *next;
};

struct sim_graph_node {
    uint32_t mark;
    enum sim_node_type type;
    uint64_t id;     /* never given twice */
    uint64_t origin; /* the id of the node that it is a copy of; 0: none */
    CUgraph graph;
    bool disabled;
    struct sim_work work; /* of all kinds but NODE_CHILD, NODE_ALLOC and NODE_FREE; its list of values is its own */
    CUevent event;        /* of NODE_RECORD and NODE_WAIT */
    CUgraph child;        /* its own copy */
    struct sim_graph_block *block;
    struct sim_nodes after;
    struct sim_graph_node *next, *previous;
    size_t place; /* scratch, for one walk */
};

struct sim_graph {
    uint32_t mark;
    CUgraphNode first, last; /* in the order in which they were added */
    size_t count;
    uint64_t id, origin;
    CUgraphNode owner;    /* the node whose child it is, or NULL */
    unsigned allocations; /* its NODE_ALLOC and NODE_FREE */
    bool instantiated;    /* and has allocations: no second time */
    struct sim_lent *lent; /* user objects */
};

struct sim_graph_exec {
    uint32_t mark;
    CUgraph graph; /* a copy, in an order that can be started */
    CUgraph of;    /* what it was made from; may be gone */
    uint64_t of_id;
    uint64_t flags;
    unsigned busy; /* launches under way */
    bool ended;
};

/* --- Nodes and edges: graph.c ---------------------------------------------------------------------------------------------- */

CUgraph sim_graph_new(void);
void sim_graph_delete(CUgraph graph);
/* A node behind `after`, whose nodes must be the graph's. NULL when `error` says why. */
CUgraphNode sim_node_add(CUgraph graph, enum sim_node_type type, const CUgraphNode *after, size_t count, CUresult *error);
void sim_node_delete(CUgraphNode node);
/* Whether all of them are nodes of the graph. */
bool sim_nodes_in(CUgraph graph, const CUgraphNode *nodes, size_t count);
bool sim_nodes_have(const struct sim_nodes *nodes, const struct sim_graph_node *node);
bool sim_nodes_put(struct sim_nodes *nodes, CUgraphNode node);
void sim_nodes_take(struct sim_nodes *nodes, const struct sim_graph_node *node);
void sim_nodes_clear(struct sim_nodes *nodes);
/* The graph's nodes, each behind those that it comes after; allocated. NULL: no such order, or no memory. */
CUgraphNode *sim_graph_order(CUgraph graph);
/* A copy, its nodes in that order, with the same children and blocks. NULL when `error` says why. */
CUgraph sim_graph_copy(CUgraph graph, CUresult *error);
/* Whether every edge is "the whole node before the whole node". */
bool sim_edges_plain(const CUgraphEdgeData *edges, size_t count);
/* The node of `graph` that was made from the node of that id, or NULL. */
CUgraphNode sim_graph_find(CUgraph graph, uint64_t origin);

/* --- What a node does: graph_node.c ------------------------------------------------------------------------------------------ */

/* Take over what `from` does; both have one type. Both keep what they have when it fails. */
CUresult sim_node_take_over(CUgraphNode node, const struct sim_graph_node *from);
/* A node for work that was given to a stream. */
CUgraphNode sim_node_of_work(CUgraph graph, const struct sim_work *work, const struct sim_nodes *after, CUresult *error);
/* Set what a node does; the node says its type, and so must the parameters. An allocation's address is written back. */
CUresult sim_node_set(CUgraphNode node, CUgraphNodeParams *parameters);

/* --- Memory of graphs: graph_memory.c ----------------------------------------------------------------------------------------- */

/* Addresses for `bytes` of the device; NULL when there are none. */
struct sim_graph_block *sim_graph_block_new(int device, size_t bytes);
struct sim_graph_block *sim_graph_block_at(CUdeviceptr address);
/* The block is named by one node less. */
void sim_graph_block_leave(struct sim_graph_block *block);
/* Memory behind its addresses; sim_graph_block_give ends it. INVALID_VALUE: it is there already, or not. */
CUresult sim_graph_block_take(struct sim_graph_block *block);
/* Whether a node of the graph allocates it. */
bool sim_graph_makes(CUgraph graph, const struct sim_graph_block *block);
CUresult sim_node_set_alloc(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *parameters);
CUresult sim_node_set_free(CUgraphNode node, CUdeviceptr address);

/* A graph that is started in a capturing stream. */
CUresult sim_capture_child(CUstream stream, CUgraph graph);

/* --- User objects: user_object.c ---------------------------------------------------------------------------------------------- */

/* A copy of a graph has the same objects as it; a graph that goes has none. */
CUresult sim_graph_lend_all(CUgraph graph, CUgraph from);
void sim_graph_give_back(CUgraph graph);
/* The last step of every call that may have ended a graph: leave the driver, and destroy what nobody uses any more. */
CUresult sim_user_objects_leave(CUresult result);

/* --- Captures: capture.c ------------------------------------------------------------------------------------------------------- */

/* A sequence of calls that becomes a graph. */
struct sim_capture {
    uint32_t mark;
    uint64_t id;
    int mode;
    uint64_t thread;
    CUgraph graph;
    bool lent; /* the program's own graph */
    bool invalid;
    CUstream origin, streams; /* the first, and all, by next_captured */
    CUgraphEdgeData *edges;   /* room for as many as anybody asked for */
    struct sim_capture *next;
};

#endif
