/* Memory straight from the kernel: zeroed, aligned, and given back whole. For packed weights, arenas and large states. */
#ifndef MOSSC_RUNTIME_MEMORY_H
#define MOSSC_RUNTIME_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum { RT_PAGE = 4096, RT_HUGE_PAGE = 2 << 20 };

typedef struct RtPages {
    uint8_t *data; /* NULL when nothing is held; aligned to RT_HUGE_PAGE from that size on, to a page below */
    size_t size;   /* bytes asked for */
    void *mapped;
    size_t mapped_size;
} RtPages;

/* size bytes (0 gives a page). data is NULL when there is no memory. From RT_HUGE_PAGE on, huge pages are asked for. An
 * inaccessible page follows the last one, so a kernel that runs past the end stops there. */
RtPages rt_pages_alloc(uint64_t size);
void rt_pages_free(RtPages *pages);
/* Makes all of it zero again, by giving the pages back. */
void rt_pages_clear(const RtPages *pages);

#endif
