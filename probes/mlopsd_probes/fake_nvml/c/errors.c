/* What became of a card's memory: ECC, retired pages, remapped rows, repairs. */

#include "answer.h"

#include <string.h>

/* The keys are in nvmlMemoryLocation_t's order: l1 l2 dram register texture shm cbu sram, and then their total. */
static enum key ecc_key(unsigned uncorrected, unsigned aggregate, unsigned location) {
    static const enum key FIRST[2][2] = {{K_ECC_CV_L1, K_ECC_CA_L1}, {K_ECC_UV_L1, K_ECC_UA_L1}};
    return (enum key)(FIRST[uncorrected][aggregate] + location);
}

/* A card whose ECC is off counts nothing. */
nvmlReturn_t ecc_count(const struct call *on, unsigned type, unsigned counter, unsigned location, long long *out) {
    long long mode;
    nvmlReturn_t refused = value_at(&on->card->values[K_ECC_MODE], on->now, &mode);
    if (type > 1 || counter > 1 || location > EVERYWHERE)
        return INVALID_ARGUMENT;
    if (refused != SUCCESS)
        return refused;
    if (mode == 0)
        return NOT_SUPPORTED;
    return value_at(&on->card->values[ecc_key(type, counter, location)], on->now, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned type, unsigned counter,
                                                unsigned long long *out) {
    long long value = 0;
    BEGIN_ON(begin_on_card, nvmlDeviceGetTotalEccErrors);
    nvmlReturn_t answer = ecc_count(&on, type, counter, EVERYWHERE, &value);
    *out = (unsigned long long)value;
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, unsigned type, unsigned counter,
                                                    unsigned location, unsigned long long *out) {
    long long value = 0;
    BEGIN_ON(begin_on_card, nvmlDeviceGetMemoryErrorCounter);
    nvmlReturn_t answer = location < EVERYWHERE ? ecc_count(&on, type, counter, location, &value) : INVALID_ARGUMENT;
    *out = (unsigned long long)value;
    return finish(answer);
}

static unsigned long long ecc_or_zero(const struct call *on, unsigned type, unsigned counter, unsigned location) {
    long long value = 0;
    return ecc_count(on, type, counter, location, &value) == SUCCESS ? (unsigned long long)value : 0;
}

EXPORT nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, unsigned type, unsigned counter,
                                                   struct nvmlEccErrorCounts *out) {
    long long total;
    BEGIN_ON(begin_on_card, nvmlDeviceGetDetailedEccErrors);
    nvmlReturn_t answer = ecc_count(&on, type, counter, EVERYWHERE, &total);
    if (answer == SUCCESS)
        *out = (struct nvmlEccErrorCounts){ecc_or_zero(&on, type, counter, 0), ecc_or_zero(&on, type, counter, 1),
                                           ecc_or_zero(&on, type, counter, 2), ecc_or_zero(&on, type, counter, 3)};
    return finish(answer);
}

/* All of what is uncorrected is said to be of parity, in the L2. */
EXPORT nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, struct nvmlEccSramErrorStatus_v1 *out) {
    enum { SRAM = 7 };
    long long exceeded;
    BEGIN_ON(begin_on_card, nvmlDeviceGetSramEccErrorStatus);
    SAME_LAYOUT(out, nvmlEccSramErrorStatus_v1, 1);
    READ(K_ECC_SRAM_THRESHOLD, exceeded);
    memset(out, 0, sizeof *out);
    out->version = LAYOUT_VERSION(nvmlEccSramErrorStatus_v1, 1);
    out->volatileCor = ecc_or_zero(&on, 0, 0, SRAM);
    out->aggregateCor = ecc_or_zero(&on, 0, 1, SRAM);
    out->volatileUncParity = ecc_or_zero(&on, 1, 0, SRAM);
    out->aggregateUncParity = out->bucketL2 = ecc_or_zero(&on, 1, 1, SRAM);
    out->bThresholdExceeded = (unsigned)exceeded;
    return finish(SUCCESS);
}

/* Only a card that says whether a page is pending retires pages. */
static nvmlReturn_t retired(enum function function, nvmlDevice_t device, unsigned cause, unsigned *count,
                            unsigned long long *addresses, unsigned long long *times) {
    long long pending;
    unsigned found = 0;
    struct call on = begin_on_card(function, device);
    if (on.refused != SUCCESS)
        return on.refused;
    READ(K_RETIRED_PENDING, pending);
    for (int i = 0; i < on.card->page_count; i++)
        if (on.card->pages[i].double_bit == (int)cause) {
            if (addresses && found < *count) {
                addresses[found] = on.card->pages[i].address;
                if (times)
                    times[found] = on.card->pages[i].timestamp;
            }
            found++;
        }
    nvmlReturn_t answer = found > (addresses ? *count : 0) ? INSUFFICIENT_SIZE : SUCCESS;
    *count = found;
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, unsigned cause, unsigned *count,
                                              unsigned long long *addresses) {
    return retired(F_nvmlDeviceGetRetiredPages, device, cause, count, addresses, 0);
}

/* Asked for the number it is called with the array left out, and pynvml leaves out the times as well. */
EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, unsigned cause, unsigned *count,
                                                 unsigned long long *addresses, unsigned long long *times) {
    return retired(F_nvmlDeviceGetRetiredPages_v2, device, cause, count, addresses, times);
}

/* *count* numbers from the key *first* on. */
static nvmlReturn_t row(const struct call *on, enum key first, unsigned count, long long *out) {
    nvmlReturn_t answer = SUCCESS;
    for (unsigned i = 0; i < count && answer == SUCCESS; i++)
        answer = value_at(&on->card->values[first + i], on->now, &out[i]);
    return answer;
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected,
                                              unsigned *pending, unsigned *failure) {
    long long rows[4] = {0};
    BEGIN_ON(begin_on_card, nvmlDeviceGetRemappedRows);
    nvmlReturn_t answer = row(&on, K_REMAPPED_CORRECTED, 4, rows);
    *corrected = (unsigned)rows[0], *uncorrected = (unsigned)rows[1];
    *pending = (unsigned)rows[2], *failure = (unsigned)rows[3];
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, struct nvmlRemappedRowsInfo_v2 *out) {
    long long rows[4] = {0};
    BEGIN_ON(begin_on_card, nvmlDeviceGetRemappedRows_v2);
    nvmlReturn_t answer = row(&on, K_REMAPPED_CORRECTED, 4, rows);
    *out = (struct nvmlRemappedRowsInfo_v2){(unsigned)rows[0], 0, (unsigned)rows[1], 0, (unsigned)rows[2], (unsigned)rows[3]};
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device, struct nvmlRowRemapperHistogram *out) {
    long long banks[5] = {0};
    BEGIN_ON(begin_on_card, nvmlDeviceGetRowRemapperHistogram);
    nvmlReturn_t answer = row(&on, K_HISTOGRAM_MAX, 5, banks);
    *out = (struct nvmlRowRemapperHistogram){(unsigned)banks[0], (unsigned)banks[1], (unsigned)banks[2],
                                             (unsigned)banks[3], (unsigned)banks[4]};
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetRepairStatus(nvmlDevice_t device, struct nvmlRepairStatus *out) {
    long long channel, tpc;
    BEGIN_ON(begin_on_card, nvmlDeviceGetRepairStatus);
    SAME_LAYOUT(out, nvmlRepairStatus, 1);
    READ(K_REPAIR_CHANNEL, channel);
    READ(K_REPAIR_TPC, tpc);
    out->bChannelRepairPending = (unsigned)channel, out->bTpcRepairPending = (unsigned)tpc;
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetUnrepairableMemoryFlag_v1(nvmlDevice_t device, struct nvmlUnrepairableMemory_v1 *out) {
    long long flag;
    BEGIN_ON(begin_on_card, nvmlDeviceGetUnrepairableMemoryFlag_v1);
    SAME_LAYOUT(out, nvmlUnrepairableMemory_v1, 1);
    READ(K_UNREPAIRABLE, flag);
    out->bUnrepairableMemory = (unsigned)flag;
    return finish(SUCCESS);
}
