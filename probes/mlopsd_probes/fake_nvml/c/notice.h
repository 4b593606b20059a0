/* A sleep that ends when the scenario's file is written or replaced, as a driver's ends with an interrupt. */

#ifndef FAKE_NVML_NOTICE_H
#define FAKE_NVML_NOTICE_H

/* Makes ready to notice files that are written beside *path*; without it, or where the system refuses, a sleep is
 * short instead. Not for two threads at once. */
void notice(const char *path);

/* At most *span* ms. Of several threads that sleep maybe only one is woken. A signal ends it too. */
void sleep_until_noticed(long long span);

#endif
