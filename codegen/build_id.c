#include "codegen/build_id.h"

#include <elf.h>
#include <link.h>
#include <stdbool.h>

/* A file loaded into this process: the one that holds `address`, and what is to be known of its build. */
typedef struct Loaded {
    uintptr_t address;
    SuDigestStream *stream;
} Loaded;

static bool holds(const struct dl_phdr_info *file, uintptr_t address) {
    for (int i = 0; i < file->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &file->dlpi_phdr[i];
        uintptr_t start = file->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_LOAD && address - start < segment->p_memsz) return true;
    }
    return false;
}

/* Adds the build id among the notes of one segment. */
static void add_build_id(SuDigestStream *stream, const uint8_t *notes, size_t size) {
    while (size >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) note;
        memcpy(&note, notes, sizeof note);
        size_t name = (note.n_namesz + 3u) & ~(size_t)3, text = (note.n_descsz + 3u) & ~(size_t)3;
        if (name > size || text > size || sizeof note + name + text > size) return;
        const uint8_t *at = notes + sizeof note;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(at, "GNU", 4) == 0)
            su_digest_add(stream, at + name, note.n_descsz);
        notes += sizeof note + name + text;
        size -= sizeof note + name + text;
    }
}

static int add_if_it_holds(struct dl_phdr_info *file, size_t size, void *context) {
    (void)size;
    const Loaded *wanted = context;
    if (!holds(file, wanted->address)) return 0;
    for (int i = 0; i < file->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &file->dlpi_phdr[i];
        if (segment->p_type == PT_NOTE)
            add_build_id(wanted->stream, (const uint8_t *)(file->dlpi_addr + segment->p_vaddr), segment->p_memsz);
    }
    return 1;
}

void cg_add_build_id(SuDigestStream *stream, const void *address) {
    Loaded wanted = {(uintptr_t)address, stream};
    dl_iterate_phdr(add_if_it_holds, &wanted);
}
