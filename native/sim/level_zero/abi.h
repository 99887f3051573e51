/* SPDX-License-Identifier: Apache-2.0
 *
 * Facts about the interface of Level Zero's sysman (specification 1.x, x86-64 and aarch64 Linux): names, numbers and layouts.
 * Only what the simulated library answers. The sizes are those of the published header.
 */
#ifndef MICA_SIM_ZES_ABI_H
#define MICA_SIM_ZES_ABI_H

#include <stdint.h>

typedef uint8_t ze_bool_t;

typedef enum {
    ZE_RESULT_SUCCESS = 0,
    ZE_RESULT_ERROR_DEVICE_LOST = 0x70000001,
    ZE_RESULT_ERROR_NOT_AVAILABLE = 0x70010001,
    ZE_RESULT_ERROR_UNINITIALIZED = 0x78000001,
    ZE_RESULT_ERROR_UNSUPPORTED_FEATURE = 0x78000003,
    ZE_RESULT_ERROR_INVALID_ARGUMENT = 0x78000004,
    ZE_RESULT_ERROR_INVALID_NULL_HANDLE = 0x78000005,
    ZE_RESULT_ERROR_INVALID_NULL_POINTER = 0x78000007,
    ZE_RESULT_ERROR_INVALID_SIZE = 0x78000008,
} ze_result_t;

typedef struct zes_opaque *zes_handle_t; /* of a driver, a device or a part of one */

#define ZES_STRUCTURE_TYPE_DEVICE_EXT_PROPERTIES 0x2d

/* The head of every structure that can be continued by another. */
typedef struct zes_base {
    uint32_t stype;
    struct zes_base *pNext;
} zes_base_t;

typedef struct {
    uint8_t id[16];
} zes_uuid_t;

typedef struct {
    zes_base_t base;
    uint32_t type, vendorId, deviceId, flags, subdeviceId, coreClockRate;
    uint64_t maxMemAllocSize;
    uint32_t maxHardwareContexts, maxCommandQueuePriority;
    uint32_t numThreadsPerEU, physicalEUSimdWidth, numEUsPerSubslice, numSubslicesPerSlice, numSlices;
    uint64_t timerResolution;
    uint32_t timestampValidBits, kernelTimestampValidBits;
    zes_uuid_t uuid;
    char name[256];
} ze_device_properties_t;

typedef struct {
    zes_base_t base;
    ze_device_properties_t core;
    uint32_t numSubdevices;
    char serialNumber[64], boardNumber[64], brandName[64], modelName[64], vendorName[64], driverVersion[64];
} zes_device_properties_t;

typedef struct {
    zes_base_t base;
    zes_uuid_t uuid;
    uint32_t type, flags;
} zes_device_ext_properties_t;

#define ZES_DEVICE_TYPE_GPU 1
#define ZES_DEVICE_PROPERTY_FLAG_ECC (1u << 2)

typedef struct {
    zes_base_t base;
    uint32_t subdeviceId;
    zes_uuid_t uuid;
} zes_subdevice_exp_properties_t;

typedef struct {
    zes_base_t base;
    uint32_t reset; /* ZES_RESET_REASON_FLAG_* */
    uint32_t repaired;
} zes_device_state_t;

typedef struct {
    uint32_t domain, bus, device, function;
} zes_pci_address_t;

typedef struct {
    int32_t gen, width;
    int64_t maxBandwidth;
} zes_pci_speed_t;

typedef struct {
    zes_base_t base;
    zes_pci_address_t address;
    zes_pci_speed_t maxSpeed;
    ze_bool_t haveBandwidthCounters, havePacketCounters, haveReplayCounters;
} zes_pci_properties_t;

typedef struct {
    zes_base_t base;
    uint32_t status; /* 1: good */
    uint32_t qualityIssues, stabilityIssues;
    zes_pci_speed_t speed;
} zes_pci_state_t;

typedef struct {
    zes_base_t base;
    uint32_t processId;
    uint64_t memSize, sharedSize;
    uint32_t engines; /* ZES_ENGINE_TYPE_FLAG_* */
} zes_process_state_t;

#define ZES_ENGINE_TYPE_FLAG_COMPUTE (1u << 1)

typedef struct {
    zes_base_t base;
    uint32_t type; /* 0: HBM, 17: GDDR6 */
    ze_bool_t onSubdevice;
    uint32_t subdeviceId;
    uint32_t location; /* 1: on the device */
    uint64_t physicalSize;
    int32_t busWidth, numChannels;
} zes_mem_properties_t;

typedef struct {
    zes_base_t base;
    uint32_t health; /* 1: OK, 2: degraded, 3: critical, 4: to be replaced */
    uint64_t free, size;
} zes_mem_state_t;

typedef struct {
    uint64_t readCounter, writeCounter, maxBandwidth, timestamp;
} zes_mem_bandwidth_t;

#define ZES_ENGINE_GROUP_ALL 0
#define ZES_ENGINE_GROUP_COMPUTE_ALL 1
#define ZES_ENGINE_GROUP_COPY_ALL 3

typedef struct {
    zes_base_t base;
    uint32_t type;
    ze_bool_t onSubdevice;
    uint32_t subdeviceId;
} zes_engine_properties_t;

typedef struct {
    uint64_t activeTime, timestamp; /* microseconds */
} zes_engine_stats_t;

typedef struct {
    uint32_t fabricId, attachId;
    uint8_t portNumber;
} zes_fabric_port_id_t;

typedef struct {
    int64_t bitRate; /* bits a second of one lane */
    int32_t width;
} zes_fabric_port_speed_t;

typedef struct {
    zes_base_t base;
    char model[256];
    ze_bool_t onSubdevice;
    uint32_t subdeviceId;
    zes_fabric_port_id_t portId;
    zes_fabric_port_speed_t maxRxSpeed, maxTxSpeed;
} zes_fabric_port_properties_t;

typedef struct {
    zes_base_t base;
    uint32_t status; /* 1: healthy */
    uint32_t qualityIssues, failureReasons;
    zes_fabric_port_id_t remotePortId;
    zes_fabric_port_speed_t rxSpeed, txSpeed;
} zes_fabric_port_state_t;

typedef struct {
    uint64_t timestamp, rxCounter, txCounter;
} zes_fabric_port_throughput_t;

typedef struct {
    zes_base_t base;
    ze_bool_t onSubdevice;
    uint32_t subdeviceId;
    ze_bool_t canControl;
    uint32_t engines;
    uint32_t supportedModes; /* bits by ZES_SCHED_MODE_* */
} zes_sched_properties_t;

#define ZES_SCHED_MODE_TIMEOUT 0
#define ZES_SCHED_MODE_TIMESLICE 1
#define ZES_SCHED_MODE_EXCLUSIVE 2

typedef struct {
    zes_base_t base;
    uint64_t interval, yieldTimeout; /* microseconds */
} zes_sched_timeslice_properties_t;

#define ZES_TEMP_SENSORS_GPU 1
#define ZES_TEMP_SENSORS_MEMORY 2

typedef struct {
    zes_base_t base;
    uint32_t type;
    ze_bool_t onSubdevice;
    uint32_t subdeviceId;
    double maxTemperature;
    ze_bool_t isCriticalTempSupported, isThreshold1Supported, isThreshold2Supported;
} zes_temp_properties_t;

typedef struct {
    zes_base_t base;
    ze_bool_t onSubdevice;
    uint32_t subdeviceId;
    ze_bool_t canControl, isEnergyThresholdSupported;
    int32_t defaultLimit, minLimit, maxLimit; /* milliwatts */
} zes_power_properties_t;

typedef struct {
    uint64_t energy, timestamp; /* microjoules, microseconds */
} zes_power_energy_counter_t;

typedef struct {
    ze_bool_t enabled;
    int32_t power, interval;
} zes_power_sustained_limit_t;

#define ZES_RAS_CATEGORIES 7
#define ZES_RAS_ERROR_CAT_CACHE_ERRORS 5
#define ZES_RAS_ERROR_CATEGORY_EXP_MEMORY_ERRORS 7

typedef struct {
    zes_base_t base;
    uint32_t type; /* 0: correctable, 1: not */
    ze_bool_t onSubdevice;
    uint32_t subdeviceId;
} zes_ras_properties_t;

typedef struct {
    zes_base_t base;
    uint64_t category[ZES_RAS_CATEGORIES];
} zes_ras_state_t;

typedef struct {
    uint32_t category;
    uint64_t errorCounter;
} zes_ras_state_exp_t;

#define ZES_EVENT_TYPE_FLAG_DEVICE_DETACH (1u << 0)
#define ZES_EVENT_TYPE_FLAG_TEMP_CRITICAL (1u << 6)
#define ZES_EVENT_TYPE_FLAG_RAS_UNCORRECTABLE_ERRORS (1u << 13)
#define ZES_EVENT_TYPE_FLAG_DEVICE_RESET_REQUIRED (1u << 14)

typedef struct {
    zes_base_t base;
    zes_pci_address_t address;
    uint64_t vfDeviceMemSize;
    uint32_t vfID;
} zes_vf_exp2_capabilities_t;

typedef struct {
    zes_base_t base;
    uint32_t vfMemLocation;
    uint64_t vfMemUtilized;
} zes_vf_util_mem_exp2_t;

#define SAME_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
SAME_SIZE(zes_uuid_t, 16);
SAME_SIZE(ze_device_properties_t, 368);
SAME_SIZE(zes_device_properties_t, 776);
SAME_SIZE(zes_device_ext_properties_t, 40);
SAME_SIZE(zes_subdevice_exp_properties_t, 40);
SAME_SIZE(zes_device_state_t, 24);
SAME_SIZE(zes_pci_address_t, 16);
SAME_SIZE(zes_pci_speed_t, 16);
SAME_SIZE(zes_pci_properties_t, 56);
SAME_SIZE(zes_pci_state_t, 48);
SAME_SIZE(zes_process_state_t, 48);
SAME_SIZE(zes_mem_properties_t, 48);
SAME_SIZE(zes_mem_state_t, 40);
SAME_SIZE(zes_mem_bandwidth_t, 32);
SAME_SIZE(zes_engine_properties_t, 32);
SAME_SIZE(zes_engine_stats_t, 16);
SAME_SIZE(zes_fabric_port_id_t, 12);
SAME_SIZE(zes_fabric_port_speed_t, 16);
SAME_SIZE(zes_fabric_port_properties_t, 328);
SAME_SIZE(zes_fabric_port_state_t, 72);
SAME_SIZE(zes_fabric_port_throughput_t, 24);
SAME_SIZE(zes_sched_properties_t, 40);
SAME_SIZE(zes_sched_timeslice_properties_t, 32);
SAME_SIZE(zes_temp_properties_t, 48);
SAME_SIZE(zes_power_properties_t, 40);
SAME_SIZE(zes_power_energy_counter_t, 16);
SAME_SIZE(zes_power_sustained_limit_t, 12);
SAME_SIZE(zes_ras_properties_t, 32);
SAME_SIZE(zes_ras_state_t, 72);
SAME_SIZE(zes_ras_state_exp_t, 16);
SAME_SIZE(zes_vf_exp2_capabilities_t, 48);
SAME_SIZE(zes_vf_util_mem_exp2_t, 32);
#undef SAME_SIZE

#endif
