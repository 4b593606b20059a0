/* What the calls of NVML begin with and end with, and what several of them answer. */

#ifndef FAKE_NVML_ANSWER_H
#define FAKE_NVML_ANSWER_H

#include "host.h"

#define EXPORT __attribute__((visibility("default")))

/* Begins a call on *device*, or refuses it. */
#define BEGIN_ON(beginning, api)                                                                              \
    struct call on = beginning(F_##api, device);                                                              \
    if (on.refused != SUCCESS)                                                                                \
        return on.refused

/* Ends the call unless its caller has laid *out* out as we have. */
#define SAME_LAYOUT(out, layout, number)                                                                      \
    do {                                                                                                      \
        if ((out)->version != LAYOUT_VERSION(layout, number))                                                 \
            return finish(ARGUMENT_VERSION_MISMATCH);                                                         \
    } while (0)

/* The card's number of that key in *out*; ends the call if it has none. */
#define READ(key, out)                                                                                        \
    do {                                                                                                      \
        nvmlReturn_t refused = value_at(&on.card->values[key], on.now, &(out));                               \
        if (refused != SUCCESS)                                                                               \
            return finish(refused);                                                                           \
    } while (0)

/* The card's number of that key; 0 if it has none. */
unsigned or_zero(const struct call *on, enum key key);

/* A text for a caller who has room for *size* characters. */
nvmlReturn_t put(const char *text, char *to, unsigned size);

/* Unix time. */
long long microseconds(void);

/* Where a card, or what is at the other end of a link, is on the PCI bus. */
nvmlReturn_t pci_info(const char *text, struct nvmlPciInfo *info);

/* Errors of a nvmlMemoryErrorType_t by nvmlEccCounterType_t, of a nvmlMemoryLocation_t or all together. */
enum { EVERYWHERE = 8 };
nvmlReturn_t ecc_count(const struct call *on, unsigned type, unsigned counter, unsigned location, long long *out);

/* A number of one NVLink. */
nvmlReturn_t link_value(const struct call *on, unsigned link, enum link_key key, long long *out);

#endif
