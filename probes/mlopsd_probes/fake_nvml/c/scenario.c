#define _POSIX_C_SOURCE 200809L

#include "line.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BASE = -1 };

static const char *set_moment(struct scenario *scenario, struct line *line) {
    struct once moment = {.card = line->card, .xid = 0};
    if (strcmp(line->words[0], "xid") == 0) {
        if (line->count != 2 || !whole(line->words[1], &moment.xid) || moment.xid == 0 || line->card == EVERY_CARD)
            return "an XID is: xid NUMBER gpu N";
    } else if (line->count != 1) {
        return "a reload stands alone";
    }
    if (line->moment)
        *line->moment = moment;
    else if (scenario->once_count == ONCE)
        return "too many XIDs";
    else
        scenario->once[scenario->once_count++] = moment;
    return 0;
}

static const char *set_counted(struct scenario *scenario, const char *when) {
    if (strcmp(when, "at_init") != 0 && strcmp(when, "anew") != 0)
        return "cards are: counted at_init, or: counted anew";
    scenario->counted_at_init = strcmp(when, "at_init") == 0;
    return 0;
}

/* NAME VALUE of the host; *known* says whether there is such a name. */
static const char *set_host(struct scenario *scenario, char **words, int *known) {
    if (strcmp(words[0], "driver") == 0)
        copy(scenario->driver, TEXT, words[1]);
    else if (strcmp(words[0], "nvml") == 0)
        copy(scenario->nvml, TEXT, words[1]);
    else if (strcmp(words[0], "cuda") == 0)
        return small(words[1], 1 << 30, &scenario->cuda) ? 0 : "cuda is a number, as 12040 for 12.4";
    else if (strcmp(words[0], "cards") == 0)
        return small(words[1], CARDS + 1, &scenario->count) ? 0 : "too many cards";
    else if (strcmp(words[0], "counted") == 0)
        return set_counted(scenario, words[1]);
    else
        *known = 0;
    return 0;
}

static const char *for_host(struct scenario *scenario, struct line *line, int *known) {
    char **words = line->words;
    *known = 1;
    if (strcmp(words[0], "error") == 0 || strcmp(words[0], "delay") == 0 || strcmp(words[0], "hang") == 0
        || strcmp(words[0], "missing") == 0)
        return set_fault(scenario, line);
    if (strcmp(words[0], "xid") == 0 || strcmp(words[0], "reload") == 0)
        return set_moment(scenario, line);
    if (line->count == 3 && strcmp(words[0], "init") == 0 && strcmp(words[1], "error") == 0) {
        struct line same = {.words = {"error", "nvmlInit*", words[2]}, .count = 3, .card = EVERY_CARD};
        return set_fault(scenario, &same);
    }
    if (line->count == 2 && strcmp(words[0], "works") == 0) {
        forget_faults(scenario, words[1], line->card);
        return 0;
    }
    if (line->count == 2)
        return set_host(scenario, words, known);
    *known = 0;
    return 0;
}

static const char *apply(struct scenario *scenario, struct line *line) {
    int known;
    const char *mistake = for_host(scenario, line, &known);
    if (known)
        return mistake;
    for (int i = 0; i < CARDS && !mistake; i++)
        if (line->card == EVERY_CARD || line->card == i)
            mistake = for_card(line, &scenario->cards[i]);
    return mistake;
}

/* Splits *text* in place; a trailing "gpu N" says whom it is for. */
static const char *split(char *text, struct line *line) {
    char *rest = 0;
    line->count = 0;
    for (char *word = strtok_r(text, " \t\r\n", &rest); word; word = strtok_r(0, " \t\r\n", &rest)) {
        if (line->count == WORDS)
            return "too many words";
        line->words[line->count++] = word;
    }
    if (line->count > 2 && strcmp(line->words[line->count - 2], "gpu") == 0) {
        if (!small(line->words[line->count - 1], CARDS, &line->card))
            return "no such card";
        line->count -= 2;
    } else if (line->count > 2 && strcmp(line->words[0], "gpu") == 0) {
        if (!small(line->words[1], CARDS, &line->card))
            return "no such card";
        line->count -= 2;
        memmove(line->words, line->words + 2, (size_t)line->count * sizeof *line->words);
    }
    return 0;
}

/* [card N], [card *], [host] */
static const char *section(const char *text, int *card, int *count) {
    char name[16], closing[4];
    if (sscanf(text, "[card %15[0-9*]%3[]]", name, closing) == 2) {
        *card = EVERY_CARD;
        if (strcmp(name, "*") != 0 && !small(name, CARDS, card))
            return "no such card";
        if (*card >= *count)
            *count = *card + 1;
        return 0;
    }
    if (strncmp(text, "[host]", 6) != 0)
        return "a section is [host], [card N] or [card *]";
    *card = EVERY_CARD;
    return 0;
}

static int by_time(const void *a, const void *b) {
    const struct event *one = a, *other = b;
    return one->at != other->at ? (one->at > other->at) - (one->at < other->at) : one->line - other->line;
}

/* at 5s DIRECTIVE: kept for later, and tried on a copy so that a mistake shows when the file is read. */
static const char *keep(struct scenario *scenario, const char *text, int card, int number, struct scenario *trial) {
    struct event *event = &scenario->events[scenario->event_count];
    struct once ignored;
    struct line line = {.card = card, .moment = &ignored};
    char scratch[LINE], *end;
    if (scenario->event_count == EVENTS)
        return "too many events";
    while (isspace((unsigned char)*text))
        text++;
    if (!duration(text, &end, &event->at) || !isspace((unsigned char)*end))
        return "an event is: at 5s DIRECTIVE";
    event->card = card, event->line = number;
    copy(event->text, LINE, end);
    copy(scratch, LINE, end);
    const char *mistake = split(scratch, &line);
    if (!mistake)
        mistake = line.count ? apply(trial, &line) : "an event is: at 5s DIRECTIVE";
    if (!mistake)
        scenario->event_count++;
    return mistake;
}

static const char *read_line(struct scenario *scenario, char *text, int *card, int *highest, int number,
                             struct scenario *trial) {
    struct line line = {.card = *card, .moment = 0};
    char *comment = strchr(text, '#');
    if (comment)
        *comment = 0;
    while (isspace((unsigned char)*text))
        text++;
    if (*text == 0)
        return 0;
    if (*text == '[')
        return section(text, card, highest);
    if (strncmp(text, "at ", 3) == 0)
        return keep(scenario, text + 3, *card, number, trial);
    const char *mistake = split(text, &line);
    return mistake ? mistake : apply(scenario, &line);
}

/* What a card has without being told: an address, an identity and a number, each its own. */
static void name_cards(struct scenario *scenario) {
    for (int i = 0; i < CARDS; i++) {
        struct card *card = &scenario->cards[i];
        if (!card->texts[T_PCI][0])
            snprintf(card->texts[T_PCI], TEXT, "00000000:%02X:00.0", i + 1);
        if (!card->texts[T_UUID][0])
            snprintf(card->texts[T_UUID], TEXT, "GPU-00000000-fa4e-0000-0000-%012d", i);
        if (card->values[K_MINOR].kind == ABSENT)
            card->values[K_MINOR] = (struct value){.kind = NUMBER, .base = i};
    }
}

int scenario_read(struct scenario *scenario, const char *path, char *why, int size) {
    char text[LINE];
    int card = EVERY_CARD, highest = 0, number = 0;
    const char *mistake = 0;
    FILE *file = fopen(path, "re");
    struct scenario *trial = file ? calloc(1, sizeof *trial) : 0;
    if (!trial) {
        snprintf(why, (size_t)size, "%s: %s", path, strerror(errno));
        if (file)
            fclose(file);
        return 0;
    }
    memset(scenario, 0, sizeof *scenario);
    scenario->count = BASE;
    while (!mistake && fgets(text, sizeof text, file)) {
        number++;
        if (!strchr(text, '\n') && !feof(file))
            mistake = "the line is too long";
        else
            mistake = read_line(scenario, text, &card, &highest, number, trial);
    }
    if (ferror(file))
        mistake = strerror(errno);
    fclose(file);
    free(trial);
    if (mistake) {
        snprintf(why, (size_t)size, "%s:%d: %s", path, number, mistake);
        return 0;
    }
    if (scenario->count == BASE)
        scenario->count = highest;
    qsort(scenario->events, (size_t)scenario->event_count, sizeof *scenario->events, by_time);
    name_cards(scenario);
    return 1;
}

const struct event *scenario_advance(struct scenario *scenario, long long now, struct once *moment) {
    if (scenario->applied == scenario->event_count || scenario->events[scenario->applied].at > now)
        return 0;
    const struct event *event = &scenario->events[scenario->applied++];
    struct line line = {.card = event->card, .moment = moment};
    char scratch[LINE];
    moment->card = CARDS;
    copy(scratch, LINE, event->text);
    split(scratch, &line);
    apply(scenario, &line); /* it was tried when the file was read */
    return event;
}

long long scenario_next(const struct scenario *scenario) {
    return scenario->applied == scenario->event_count ? LLONG_MAX : scenario->events[scenario->applied].at;
}
