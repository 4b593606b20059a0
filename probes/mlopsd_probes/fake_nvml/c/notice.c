#define _POSIX_C_SOURCE 200809L

#include "notice.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* ms between two looks at the file: where nobody tells of it, and where the clock or a link may have moved untold */
enum { UNTOLD = 100, TOLD = 1000 };

static int told = -1; /* of inotify, for as long as the process lives */

void notice(const char *path) {
    char folder[PATH_MAX] = ".";
    if (told >= 0 || !path || strlen(path) >= sizeof folder)
        return;
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    int begun = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (begun >= 0 && inotify_add_watch(begun, folder, IN_CLOSE_WRITE | IN_MOVED_TO) < 0) {
        close(begun);
        return;
    }
    told = begun;
}

void sleep_until_noticed(long long span) {
    struct pollfd asked = {.fd = told, .events = POLLIN}; /* a negative one is passed over */
    long long longest = told < 0 ? UNTOLD : TOLD;
    char ignored[4096];
    if (poll(&asked, 1, (int)(span < longest ? span : longest)) > 0)
        while (read(told, ignored, sizeof ignored) > 0)
            ;
}
