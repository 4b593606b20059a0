/* How often each call was made, kept in the file that FAKE_NVML_CALLS names: a line "NAME NUMBER" a call. */

#ifndef FAKE_NVML_COUNTS_H
#define FAKE_NVML_COUNTS_H

void count_call(int function);

#endif
