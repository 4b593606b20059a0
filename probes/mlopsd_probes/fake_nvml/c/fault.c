/* What a scenario lets befall the calls. */

#include "line.h"

#include <string.h>

static const char *const FUNCTION_NAMES[] = {
#define X(name) #name,
    FUNCTIONS(X)
#undef X
};

const char *function_name(int function) { return FUNCTION_NAMES[function]; }

static int matches(const char *pattern, const char *name) {
    size_t length = strlen(pattern);
    if (length > 0 && pattern[length - 1] == '*')
        return strncmp(pattern, name, length - 1) == 0;
    return strcmp(pattern, name) == 0;
}

void forget_faults(struct scenario *scenario, const char *pattern, int card) {
    int kept = 0;
    for (int i = 0; i < scenario->fault_count; i++) {
        struct fault *fault = &scenario->faults[i];
        if (strcmp(fault->pattern, pattern) != 0 || fault->card != card)
            scenario->faults[kept++] = *fault;
    }
    scenario->fault_count = kept;
}

/* A later line replaces an earlier one of the same call and card. */
static const char *add_fault(struct scenario *scenario, struct fault *fault, const char *pattern) {
    int any = 0;
    copy(fault->pattern, sizeof fault->pattern, pattern);
    for (int i = 0; i < FUNCTION_COUNT; i++)
        any |= fault->calls[i] = (unsigned char)matches(pattern, FUNCTION_NAMES[i]);
    if (!any && fault->kind != MISSING)
        return "no such call";
    forget_faults(scenario, pattern, fault->card);
    if (scenario->fault_count == FAULTS)
        return "too many faults";
    scenario->faults[scenario->fault_count++] = *fault;
    return 0;
}

const char *set_fault(struct scenario *scenario, struct line *line) {
    struct fault fault = {.card = line->card, .times = -1};
    char **words = line->words;
    int code;
    if (strcmp(words[0], "error") == 0) {
        if ((line->count != 3 && line->count != 5) || (code = code_named(words[2])) <= 0
            || (line->count == 5 && (strcmp(words[3], "times") != 0 || !small(words[4], 1 << 30, &fault.times))))
            return "an error is: error CALL CODE [times N] [gpu N]";
        fault.kind = REFUSE, fault.code = (unsigned)code;
    } else if (strcmp(words[0], "delay") == 0) {
        if (line->count != 3 || !whole_duration(words[2], &fault.delay))
            return "a delay is: delay CALL 4s [gpu N]";
        fault.kind = DELAY;
    } else if (strcmp(words[0], "hang") == 0) {
        int deaf = line->count == 3 && strcmp(words[2], "deaf") == 0;
        if (line->count != 2 && !deaf)
            return "a hang is: hang CALL [deaf] [gpu N]";
        fault.kind = deaf ? HANG_DEAF : HANG;
    } else {
        if (line->count != 2)
            return "a missing call is: missing CALL";
        fault.kind = MISSING;
    }
    return add_fault(scenario, &fault, words[1]);
}
