/* SPDX-License-Identifier: Apache-2.0
 *
 * What of libdcmi's ABI the simulated one has: types, numbers and layouts as Huawei's DCMI API reference gives them.
 */
#ifndef MICA_SIM_DCMI_ABI_H
#define MICA_SIM_DCMI_ABI_H

enum dcmi_result {
    DCMI_OK = 0,
    DCMI_INVALID_PARAMETER = -8001,
    DCMI_NOT_PERMITTED = -8002,
    DCMI_INNER_ERROR = -8005,
    DCMI_INVALID_DEVICE = -8007,
    DCMI_NO_SUCH_DEVICE = -8008,
    DCMI_NOT_READY = -8012, /* also what a chip says that fell off the bus */
    DCMI_OCCUPIED = -8020,
    DCMI_INCONSISTENT = -8022,
    DCMI_NOT_SUPPORTED = -8255,
};

enum { DCMI_UNIT_NPU = 0 };

enum dcmi_rate { DCMI_RATE_MEMORY = 1, DCMI_RATE_AICORE = 2, DCMI_RATE_AICPU = 3, DCMI_RATE_HBM = 6, DCMI_RATE_NPU = 13 };

enum { DCMI_MAIN_VDEV = 52 };
enum dcmi_vdev_command { DCMI_VDEV_RESOURCE = 0, DCMI_VDEV_TOTAL = 1, DCMI_VDEV_FREE = 2, DCMI_VDEV_ACTIVITY = 5 };

enum dcmi_topology { DCMI_TOPO_SELF = 0, DCMI_TOPO_SYS = 1, DCMI_TOPO_PHB = 2, DCMI_TOPO_HCCS = 3, DCMI_TOPO_PIX = 5 };

enum dcmi_severity { DCMI_SEVERITY_OK = 0, DCMI_SEVERITY_MINOR = 1, DCMI_SEVERITY_MAJOR = 2, DCMI_SEVERITY_CRITICAL = 3 };

#define DCMI_AUTOMATIC 0xFFFFFFFFu
#define DCMI_UNKNOWN_SHORT 0xFFFFu
#define DCMI_NAME_MAX 32
#define DCMI_VDEVS_MAX 32
#define DCMI_PROCESSES_MAX 32

struct dcmi_chip_info_v2 {
    unsigned char chip_type[DCMI_NAME_MAX];
    unsigned char chip_name[DCMI_NAME_MAX];
    unsigned char chip_ver[DCMI_NAME_MAX];
    unsigned aicore_cnt;
    unsigned char npu_name[DCMI_NAME_MAX];
};

struct dcmi_chip_info {
    unsigned char chip_type[DCMI_NAME_MAX];
    unsigned char chip_name[DCMI_NAME_MAX];
    unsigned char chip_ver[DCMI_NAME_MAX];
    unsigned aicore_cnt;
};

struct dcmi_pcie_info_all {
    unsigned venderid, subvenderid, deviceid, subdeviceid;
    int domain;
    unsigned bdf_busid, bdf_deviceid, bdf_funcid;
    unsigned char reserve[32];
};

struct dcmi_die_id {
    unsigned soc_die[5];
};

/* Memory in MB. */
struct dcmi_hbm_info {
    unsigned long long memory_size;
    unsigned freq;
    unsigned long long memory_usage;
    int temp;
    unsigned bandwith_util_rate;
};

struct dcmi_get_memory_info_stru {
    unsigned long long memory_size;
    unsigned long long memory_available;
    unsigned freq;
    unsigned long hugepagesize;
    unsigned long hugepages_total;
    unsigned long hugepages_free;
    unsigned utiliza;
    unsigned char reserve[60];
};

/* Bytes. */
struct dcmi_proc_mem_info {
    int proc_id;
    unsigned long proc_mem_usage;
};

struct dcmi_base_resource {
    unsigned long long token, token_max, task_timeout;
    unsigned vfg_id;
    unsigned char vip_mode;
    unsigned char reserved[31];
};

/* memory_size in MB, those of the vdev in KB. */
struct dcmi_computing_resource {
    float aic, aiv;
    unsigned short dsa, rtsq, acsq, cdqm, c_core, ffts, sdma, pcie_dma;
    unsigned long long memory_size;
    unsigned event_id, notify_id, stream_id, model_id;
    unsigned short topic_schedule_aicpu, host_ctrl_cpu, host_aicpu, device_aicpu, topic_ctrl_cpu_slot;
    unsigned vdev_aicore_utilization;
    unsigned long long vdev_memory_total, vdev_memory_free;
    unsigned char reserved[12];
};

struct dcmi_media_resource {
    float jpegd, jpege, vpc, vdec, pngd, venc;
    unsigned char reserved[32];
};

struct dcmi_vdev_query_info {
    char name[16];
    unsigned status, is_container_used, vfid, vfg_id;
    unsigned long long container_id;
    struct dcmi_base_resource base;
    struct dcmi_computing_resource computing;
    struct dcmi_media_resource media;
};

struct dcmi_vdev_query_stru {
    unsigned vdev_id;
    struct dcmi_vdev_query_info query_info;
};

struct dcmi_soc_free_resource {
    unsigned vfg_num, vfg_bitmap;
    struct dcmi_base_resource base;
    struct dcmi_computing_resource computing;
    struct dcmi_media_resource media;
};

struct dcmi_soc_total_resource {
    unsigned vdev_num;
    unsigned vdev_id[DCMI_VDEVS_MAX];
    unsigned vfg_num, vfg_bitmap;
    struct dcmi_base_resource base;
    struct dcmi_computing_resource computing;
    struct dcmi_media_resource media;
};

struct dcmi_create_vdev_res_stru {
    unsigned vdev_id, vfg_id;
    char template_name[32];
    unsigned char reserved[64];
};

struct dcmi_create_vdev_out {
    unsigned vdev_id, pcie_bus, pcie_device, pcie_func, vfg_id;
    unsigned char reserved[32];
};

struct dcmi_event_filter {
    unsigned long long filter_flag;
    unsigned event_id;
    unsigned char severity, node_type;
    unsigned char resv[32];
};

/* assertion: 0 it recovered, 1 it began, 2 it happened once. */
struct dcmi_dms_fault_event {
    unsigned event_id;
    unsigned short deviceid;
    unsigned char node_type, node_id, sub_node_type, sub_node_id, severity, assertion;
    int event_serial_num, notify_serial_num;
    unsigned long long alarm_raised_time;
    char event_name[256];
    char additional_info[32];
    unsigned char resv[32];
};

struct dcmi_event {
    int type;
    struct dcmi_dms_fault_event dms_event;
};

/* The adapter's ctypes mirror states the same sizes (mica.vendors.huawei._abi). */
_Static_assert(sizeof(struct dcmi_chip_info_v2) == 132, "layout");
_Static_assert(sizeof(struct dcmi_pcie_info_all) == 64, "layout");
_Static_assert(sizeof(struct dcmi_hbm_info) == 32, "layout");
_Static_assert(sizeof(struct dcmi_get_memory_info_stru) == 112, "layout");
_Static_assert(sizeof(struct dcmi_vdev_query_stru) == 264, "layout");
_Static_assert(sizeof(struct dcmi_soc_free_resource) == 224, "layout");
_Static_assert(sizeof(struct dcmi_soc_total_resource) == 360, "layout");
_Static_assert(sizeof(struct dcmi_create_vdev_res_stru) == 104, "layout");
_Static_assert(sizeof(struct dcmi_create_vdev_out) == 52, "layout");
_Static_assert(sizeof(struct dcmi_event_filter) == 48, "layout");
_Static_assert(sizeof(struct dcmi_event) == 360, "layout");

#endif
