#define _POSIX_C_SOURCE 200809L

#include "counts.h"
#include "scenario.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Lines of one width in a shared mapping, so that the file is true at any time, also after SIGKILL. */
enum { NAME_WIDTH = 52, DIGITS = 12, WIDTH = NAME_WIDTH + 1 + DIGITS + 1, SIZE = WIDTH * FUNCTION_COUNT };

static char *lines;
static int opened;

static void write_zeros(int fd) {
    char line[WIDTH + 1];
    for (int i = 0; i < FUNCTION_COUNT; i++) {
        snprintf(line, sizeof line, "%-*s %0*d\n", (int)NAME_WIDTH, function_name(i), (int)DIGITS, 0);
        if (write(fd, line, WIDTH) != WIDTH)
            return;
    }
}

/* A file of ours from an earlier process goes on being counted up. */
static void open_lines(const char *path) {
    struct stat is;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    if (fstat(fd, &is) == 0 && is.st_size != SIZE && ftruncate(fd, 0) == 0)
        write_zeros(fd);
    if (fstat(fd, &is) == 0 && is.st_size == SIZE) {
        void *mapped = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        lines = mapped == MAP_FAILED ? 0 : mapped;
    }
    close(fd);
}

void count_call(int function) {
    if (!opened) {
        const char *path = getenv("FAKE_NVML_CALLS");
        opened = 1;
        if (path && *path)
            open_lines(path);
    }
    if (!lines)
        return;
    char *first = lines + (size_t)function * WIDTH + NAME_WIDTH + 1;
    for (char *digit = first + DIGITS - 1; digit >= first; digit--) {
        if (*digit != '9') {
            ++*digit;
            return;
        }
        *digit = '0';
    }
}
