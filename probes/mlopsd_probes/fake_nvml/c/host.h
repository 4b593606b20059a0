/* The pretended host: the scenario as it stands now, which card a handle means, and what befalls each call. */

#ifndef FAKE_NVML_HOST_H
#define FAKE_NVML_HOST_H

#include "scenario.h"

struct handle { /* what an nvmlDevice_t points to */
    int card;
    int instance; /* of MIG, -1 for the whole card */
};

struct call { /* one call in progress, which holds the lock if it was not refused */
    nvmlReturn_t refused;
    struct card *card;
    const struct instance *instance; /* 0 for the whole card */
    int number;                      /* the card's */
    long long now;                   /* ms */
};

/* Begins a call: counts it, lets the scenario's faults strike, and takes the lock. If *refused* is not SUCCESS,
 * the lock is not held and that is the answer; else end the call with `finish`. */
struct call begin(enum function function);
struct call begin_on(enum function function, nvmlDevice_t device);           /* a whole card or a MIG instance */
struct call begin_on_card(enum function function, nvmlDevice_t device);      /* NOT_SUPPORTED on an instance */
/* A call that looks for a card: *number* is the one that *find* finds, -1 for none. */
struct call begin_search(enum function function, int (*find)(const void *), const void *what);
nvmlReturn_t finish(nvmlReturn_t answer);

/* Only while a call holds the lock. */
struct scenario *scenario_now(void);
int card_count(void);
int card_at(int index);  /* its number, -1 if there is none */
int index_of(int card);  /* its index, -1 if it is gone */
nvmlDevice_t handle_of(int card, int instance);
nvmlReturn_t initialise(void);
nvmlReturn_t shut_down(void);

/* Event sets; waiting does not hold the lock. */
nvmlReturn_t create_set(nvmlEventSet_t *set);
nvmlReturn_t register_card(nvmlEventSet_t set, int card, unsigned long long types);
nvmlReturn_t free_set(nvmlEventSet_t set);
nvmlReturn_t wait_for_event(enum function function, nvmlEventSet_t set, unsigned timeout, struct nvmlEventData *data);

/* Whether a call answers before nvmlInit. */
int needs_no_init(enum function function);

#endif
