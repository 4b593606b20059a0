/* One directive of a scenario, and what its words say. */

#ifndef FAKE_NVML_LINE_H
#define FAKE_NVML_LINE_H

#include "scenario.h"

#include <stddef.h>

enum { WORDS = 16 };

struct line { /* one directive: its words, and whom it is for */
    char *words[WORDS];
    int count, card;
    struct once *moment; /* where an XID or a reload goes instead of the list */
};

/* The place of *name* among *names*, -1 if it is not there. */
int named(const char *const *names, int count, const char *name);

/* The number of an error called *name*, with or without NVML_ERROR_; -1 if there is none. */
int code_named(const char *name);

/* snprintf of *text* alone. */
void copy(char *to, size_t size, const char *text);

/* Whether *text* is such a number, then in *out*: a whole one; one below *limit*; a time (see below) and nothing else. */
int whole(const char *text, unsigned long long *out);
int small(const char *text, int limit, int *out);
int whole_duration(const char *text, long long *out);

/* 5s, 250ms, 2m or 1.5 (seconds) in ms; where it ends in *end*. */
int duration(const char *text, char **end, long long *out);

/* 42, 0x1F, 80GiB (bytes), 85.2W (milliwatts); where it ends in *end*. */
int quantity(const char *text, char **end, long long *out);

/* A quantity, with +N/s for what it grows by and ~N/30s for how it swings; NA; or the name of an error. */
int parse_value(const char *text, struct value *value);

/* What a directive changes; a mistake, or 0. */
const char *for_card(struct line *line, struct card *card);
const char *set_fault(struct scenario *scenario, struct line *line);
void forget_faults(struct scenario *scenario, const char *pattern, int card);

#endif
