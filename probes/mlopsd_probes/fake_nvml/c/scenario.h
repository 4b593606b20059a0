/* A scenario: what the driver of a pretended host answers, read from a text file (SCENARIOS.md says how). */

#ifndef FAKE_NVML_SCENARIO_H
#define FAKE_NVML_SCENARIO_H

#include "nvml.h"

enum { CARDS = 16, LINKS = 36, INSTANCES = 8, PROCESSES = 32, PAGES = 64, FIELDS = 48, FAULTS = 64, EVENTS = 256, ONCE = 128 };
enum { TEXT = 96, LINE = 256, EVERY_CARD = -1 };

/* X(name in C, name in the file): the numbers of a card, in NVML's own units. */
#define ECC_KEYS(X, K, k)                                                                                     \
    X(K##_L1, k ".l1") X(K##_L2, k ".l2") X(K##_DRAM, k ".dram") X(K##_REGISTER, k ".register")               \
    X(K##_TEXTURE, k ".texture") X(K##_SHM, k ".shm") X(K##_CBU, k ".cbu") X(K##_SRAM, k ".sram")             \
    X(K##_TOTAL, k ".total")
#define KEYS(X)                                                                                               \
    X(MINOR, "minor") X(BOARD_ID, "board_id") X(MODULE_ID, "module_id") X(MULTI_GPU_BOARD, "multi_gpu_board") \
    X(BRAND, "brand") X(ARCHITECTURE, "architecture") X(BUS_TYPE, "bus_type")                                 \
    X(CAPABILITY_MAJOR, "capability.major") X(CAPABILITY_MINOR, "capability.minor")                           \
    X(CORES, "cores") X(MEMORY_BUS_WIDTH, "memory.bus_width") X(DISPLAY_ACTIVE, "display_active")             \
    X(PCI_DEVICE, "pci.device_id") X(PCI_SUBSYSTEM, "pci.subsystem_id") X(PCI_CLASS, "pci.class")             \
    X(PERSISTENCE, "persistence") X(COMPUTE_MODE, "compute_mode") X(PSTATE, "pstate")                         \
    X(UTILIZATION_GPU, "utilization.gpu") X(UTILIZATION_MEMORY, "utilization.memory")                         \
    X(UTILIZATION_ENCODER, "utilization.encoder") X(UTILIZATION_DECODER, "utilization.decoder")               \
    X(UTILIZATION_JPEG, "utilization.jpeg") X(UTILIZATION_OFA, "utilization.ofa")                             \
    X(MEMORY_TOTAL, "memory.total") X(MEMORY_RESERVED, "memory.reserved") X(MEMORY_USED, "memory.used")       \
    X(BAR1_TOTAL, "bar1.total") X(BAR1_USED, "bar1.used")                                                     \
    X(TEMPERATURE_GPU, "temperature.gpu") X(TEMPERATURE_MEMORY, "temperature.memory")                         \
    X(TEMPERATURE_MARGIN, "temperature.margin")                                                               \
    X(THRESHOLD_SHUTDOWN, "threshold.shutdown") X(THRESHOLD_SLOWDOWN, "threshold.slowdown")                   \
    X(THRESHOLD_MEMORY_MAX, "threshold.memory_max") X(THRESHOLD_GPU_MAX, "threshold.gpu_max")                 \
    X(THRESHOLD_ACOUSTIC_MIN, "threshold.acoustic_min") X(THRESHOLD_ACOUSTIC, "threshold.acoustic")           \
    X(THRESHOLD_ACOUSTIC_MAX, "threshold.acoustic_max") X(THRESHOLD_GPS, "threshold.gps")                     \
    X(TLIMIT_SHUTDOWN, "tlimit.shutdown") X(TLIMIT_SLOWDOWN, "tlimit.slowdown")                               \
    X(TLIMIT_MEMORY_MAX, "tlimit.memory_max") X(TLIMIT_GPU_MAX, "tlimit.gpu_max")                             \
    X(POWER_USAGE, "power.usage") X(POWER_INSTANT, "power.instant") X(POWER_LIMIT, "power.limit")             \
    X(POWER_DEFAULT, "power.default") X(POWER_ENFORCED, "power.enforced") X(POWER_MIN, "power.min")           \
    X(POWER_MAX, "power.max") X(POWER_MANAGEMENT, "power.management") X(ENERGY, "energy")                     \
    X(CLOCK_GRAPHICS, "clock.graphics") X(CLOCK_SM, "clock.sm") X(CLOCK_MEMORY, "clock.memory")               \
    X(CLOCK_VIDEO, "clock.video")                                                                             \
    X(CLOCK_MAX_GRAPHICS, "clock.max.graphics") X(CLOCK_MAX_SM, "clock.max.sm")                               \
    X(CLOCK_MAX_MEMORY, "clock.max.memory") X(CLOCK_MAX_VIDEO, "clock.max.video")                             \
    X(REASONS_CURRENT, "reasons.current") X(REASONS_SUPPORTED, "reasons.supported")                           \
    X(VIOLATION_POWER, "violation.power") X(VIOLATION_THERMAL, "violation.thermal")                           \
    X(VIOLATION_SYNC_BOOST, "violation.sync_boost") X(VIOLATION_BOARD_LIMIT, "violation.board_limit")         \
    X(VIOLATION_LOW_UTILIZATION, "violation.low_utilization")                                                 \
    X(VIOLATION_RELIABILITY, "violation.reliability") X(VIOLATION_APP_CLOCKS, "violation.app_clocks")         \
    X(VIOLATION_BASE_CLOCKS, "violation.base_clocks")                                                         \
    X(SLOWED_SW_THERMAL, "slowed.sw_thermal") X(SLOWED_HW_THERMAL, "slowed.hw_thermal")                       \
    X(SLOWED_POWER_BRAKE, "slowed.power_brake")                                                               \
    X(FANS, "fan.count") X(FAN_SPEED, "fan.speed") X(FAN_TARGET, "fan.target") X(FAN_RPM, "fan.rpm")          \
    X(FAN_MIN, "fan.min") X(FAN_MAX, "fan.max")                                                               \
    X(ECC_MODE, "ecc.mode") X(ECC_PENDING, "ecc.pending") X(ECC_DEFAULT, "ecc.default")                       \
    ECC_KEYS(X, ECC_CV, "ecc.corrected.volatile") ECC_KEYS(X, ECC_CA, "ecc.corrected.aggregate")              \
    ECC_KEYS(X, ECC_UV, "ecc.uncorrected.volatile") ECC_KEYS(X, ECC_UA, "ecc.uncorrected.aggregate")          \
    X(ECC_SRAM_THRESHOLD, "ecc.sram_threshold_exceeded")                                                      \
    X(RETIRED_PENDING, "retired.pending")                                                                     \
    X(REMAPPED_CORRECTED, "remapped.corrected") X(REMAPPED_UNCORRECTED, "remapped.uncorrected")               \
    X(REMAPPED_PENDING, "remapped.pending") X(REMAPPED_FAILURE, "remapped.failure")                           \
    X(HISTOGRAM_MAX, "remapped.histogram.max") X(HISTOGRAM_HIGH, "remapped.histogram.high")                   \
    X(HISTOGRAM_PARTIAL, "remapped.histogram.partial") X(HISTOGRAM_LOW, "remapped.histogram.low")             \
    X(HISTOGRAM_NONE, "remapped.histogram.none")                                                              \
    X(REPAIR_CHANNEL, "repair.channel_pending") X(REPAIR_TPC, "repair.tpc_pending")                           \
    X(UNREPAIRABLE, "repair.unrepairable")                                                                    \
    X(PCIE_GENERATION, "pcie.generation") X(PCIE_MAX_GENERATION, "pcie.max_generation")                       \
    X(PCIE_GPU_MAX_GENERATION, "pcie.gpu_max_generation")                                                     \
    X(PCIE_WIDTH, "pcie.width") X(PCIE_MAX_WIDTH, "pcie.max_width") X(PCIE_SPEED, "pcie.speed")               \
    X(PCIE_REPLAYS, "pcie.replays") X(PCIE_ROLLOVERS, "pcie.rollovers")                                       \
    X(PCIE_TX, "pcie.tx") X(PCIE_RX, "pcie.rx")                                                               \
    X(NVLINKS, "nvlink.count") X(NVSWITCH_LINKS, "nvlink.switch_count")                                       \
    X(RECOVERY_ACTION, "recovery_action")                                                                     \
    X(FABRIC_STATE, "fabric.state") X(FABRIC_STATUS, "fabric.status") X(FABRIC_CLIQUE, "fabric.clique")       \
    X(FABRIC_HEALTH_MASK, "fabric.health_mask") X(FABRIC_SUMMARY, "fabric.summary")                           \
    X(MIG_MODE, "mig.mode") X(MIG_PENDING, "mig.pending") X(MIG_MAX, "mig.max")                               \
    X(EVENT_TYPES, "events")

enum key {
#define X(name, text) K_##name,
    KEYS(X)
#undef X
    KEY_COUNT
};

/* X(name in C, name in the file after nvlink. or nvlink.N.) */
#define LINK_KEYS(X)                                                                                          \
    X(STATE, "state") X(VERSION, "version") X(SPEED, "speed") X(REPLAY, "replay") X(RECOVERY, "recovery")     \
    X(CRC_FLIT, "crc_flit") X(CRC_DATA, "crc_data") X(ECC_DATA, "ecc_data")                                   \
    X(CAPABILITIES, "capabilities") X(REMOTE_TYPE, "remote_type") X(TX, "tx") X(RX, "rx")

enum link_key {
#define X(name, text) L_##name,
    LINK_KEYS(X)
#undef X
    LINK_KEY_COUNT
};

#define TEXTS(X)                                                                                              \
    X(NAME, "name") X(UUID, "uuid") X(SERIAL, "serial") X(PCI, "pci") X(VBIOS, "vbios")                       \
    X(PART_NUMBER, "part_number") X(INFOROM, "inforom") X(GSP, "gsp") X(CLUSTER, "fabric.cluster")

enum text {
#define X(name, text) T_##name,
    TEXTS(X)
#undef X
    TEXT_COUNT
};

enum kind { ABSENT, NUMBER, NOT_AVAILABLE, REFUSED };

struct value { /* what a key holds; the zero of this is ABSENT, which NVML calls NOT_SUPPORTED */
    enum kind kind;
    unsigned refusal;          /* REFUSED: the code */
    long long base;            /* NUMBER: at time 0 */
    long long each_second;     /* added per second */
    long long swing, period;   /* a triangle wave of ± swing with this period in ms; 0 for none */
};

struct link {
    struct value values[LINK_KEY_COUNT];
    char remote_pci[32];
};

struct field {
    unsigned id, scope;        /* scope NONE: whatever is asked for */
    int type;                  /* nvmlValueType_t, -1 for the usual one */
    struct value value;
};

struct instance {
    unsigned gpu, compute, multiprocessors;
    long long total, used;
    char profile[32], uuid[TEXT];
};

struct process {
    char family;               /* c, g, m: compute, graphics, MPS */
    unsigned pid, gpu, compute;
    struct value memory;
};

struct page {
    int double_bit;
    unsigned long long address, timestamp;
};

struct card {
    unsigned refusal;          /* SUCCESS, or what every call on it answers: GPU_IS_LOST, RESET_REQUIRED … */
    int gone;                  /* not even counted */
    struct value values[KEY_COUNT];
    char texts[TEXT_COUNT][TEXT];
    struct link links[LINKS];
    struct field fields[FIELDS];
    struct instance instances[INSTANCES];
    struct process processes[PROCESSES];
    struct page pages[PAGES];
    int field_count, instance_count, process_count, page_count;
};

enum fault_kind { REFUSE, DELAY, HANG, HANG_DEAF, MISSING };

struct fault {
    enum fault_kind kind;
    unsigned char calls[FUNCTION_COUNT]; /* which it is for */
    char pattern[64];
    int card;
    unsigned code;
    int times;                 /* how often it still strikes, -1 for always */
    long long delay;           /* ms */
};

struct once { /* what happens at a moment: an XID, or (xid 0) the driver reloaded */
    int card;
    unsigned long long xid;
};

struct event {
    long long at;              /* ms */
    int card, line;
    char text[LINE];
};

struct scenario {
    char driver[TEXT], nvml[TEXT];
    int cuda, count;
    int counted_at_init;       /* the number of cards is fixed by nvmlInit, else each call counts */
    struct card cards[CARDS];
    struct fault faults[FAULTS];
    struct event events[EVENTS]; /* by time */
    struct once once[ONCE];    /* those without a time, in order */
    int fault_count, event_count, once_count, applied;
};

/* Reads the file into *scenario*; on a mistake returns 0 and writes one line to *why*. */
int scenario_read(struct scenario *scenario, const char *path, char *why, int size);

/* Applies the next event that is due at *now* (ms) and returns it, or 0 when there is none. An XID or a reload is
 * given back in *moment*, whose card is CARDS otherwise. */
const struct event *scenario_advance(struct scenario *scenario, long long now, struct once *moment);

/* When the next event is due, ms; LLONG_MAX where none is. */
long long scenario_next(const struct scenario *scenario);

/* The value at *now* in *out*; SUCCESS, NOT_SUPPORTED if absent, or what it refuses with. */
nvmlReturn_t value_at(const struct value *value, long long now, long long *out);

const char *function_name(int function);

#endif
