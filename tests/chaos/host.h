/* What an instrumented build is compiled with (-include): a call after each store to shared memory.
 */
#ifndef CHAOS_HOST_H
#define CHAOS_HOST_H

void chaos_after_store(void);
#define MD_AFTER_STORE() chaos_after_store()

#endif
