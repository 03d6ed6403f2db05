#include "runtime/memory.h"

#include <string.h>
#include <sys/mman.h>

#include "support/alloc.h"
#include "support/size.h"

RtPages rt_pages_alloc(uint64_t size) {
    RtPages none = {0};
    uint64_t align = size >= RT_HUGE_PAGE ? RT_HUGE_PAGE : RT_PAGE;
    if (size > SIZE_MAX / 2) return none;
    uint64_t whole = su_round_up(size ? size : 1, align);
    uint64_t mapped_size = whole + (align > RT_PAGE ? align : 0) + RT_PAGE;
    if (!su_may_map(mapped_size)) return none;
    void *mapped = mmap(NULL, mapped_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return none;
    uint8_t *data = (uint8_t *)mapped + (su_round_up((uintptr_t)mapped, align) - (uintptr_t)mapped);
    if (align == RT_HUGE_PAGE) madvise(data, whole, MADV_HUGEPAGE); /* a wish: without it everything works, more slowly */
    mprotect(data + whole, RT_PAGE, PROT_NONE);
    return (RtPages){.data = data, .size = size, .mapped = mapped, .mapped_size = mapped_size};
}

void rt_pages_free(RtPages *pages) {
    if (pages->mapped) munmap(pages->mapped, pages->mapped_size);
    *pages = (RtPages){0};
}

void rt_pages_clear(const RtPages *pages) {
    size_t whole = su_round_up(pages->size, RT_PAGE);
    if (whole && madvise(pages->data, whole, MADV_DONTNEED) != 0) memset(pages->data, 0, pages->size);
}
