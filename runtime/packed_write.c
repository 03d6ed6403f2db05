/* Packed weights as they are written: checkpoints are packed straight into the file's pages. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/packed.h"
#include "runtime/weights.h"
#include "support/alloc.h"

/* What is being written: all of the file, shared with its mapping. */
typedef struct Target {
    RtPackedFront front;
    uint64_t size;
    uint8_t *file; /* [size] */
} Target;

static bool fill(const Target *t, const PgProgram *program, const RtStored *tensors, RtWorkers *workers, MossProgress progress,
                 void *progress_context, SuDiags *diags) {
    RtPacking packing = {.program = program,
                         .tensors = tensors,
                         .drop = true,
                         .workers = workers,
                         .progress = progress,
                         .progress_context = progress_context,
                         .blob = t->file + t->front.header->data_offset};
    if (!rt_pack(&packing, diags)) return false;
    SuArena arena = {0};
    SuDigest *digests = SU_NEW_ARRAY(&arena, SuDigest, program->n_weights);
    rt_weights_digests(program, packing.blob, workers, digests);
    for (uint32_t i = 0; i < program->n_weights; i++) t->front.table[i].digest = digests[i];
    t->front.header->weights = su_digest(digests, program->n_weights * sizeof *digests);
    t->front.header->digest = rt_packed_header_digest(t->front.header);
    memcpy(t->file, t->front.bytes, t->front.header->data_offset);
    su_arena_free(&arena);
    return true;
}

/* Panels are written in the order of the program's weights, digests last: not as a stream is. A device such as /dev/null gets all at
 * once. */
static bool take_memory(const SuOut *out, Target *t, SuDiags *diags) {
    if (lseek(fileno(out->file), 0, SEEK_CUR) < 0) {
        return su_error(diags, su_file_span(diags, out->path), "give a file name with -o",
                        "packed weights need seekable output: expected a file, got a pipe or terminal");
    }
    void *memory = mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return su_error(diags, su_file_span(diags, out->path), NULL, "cannot allocate %llu bytes: %s", (unsigned long long)t->size,
                        su_file_error(errno));
    }
    t->file = memory;
    return true;
}

/* Room on the disk is taken before anything is written: a store into a mapped page that has no room would be a SIGBUS. */
static bool map_target(const SuOut *out, Target *t, SuDiags *diags) {
    if (!su_out_can_map(out)) return take_memory(out, t, diags);
    int fd = fileno(out->file);
    int error = ftruncate(fd, 0) == 0 ? posix_fallocate(fd, 0, (off_t)t->size) : errno;
    if (!error) {
        void *mapped = mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED) {
            t->file = mapped;
            return true;
        }
        error = errno;
    }
    return su_error(diags, su_file_span(diags, out->path), NULL, "cannot write %llu bytes: %s", (unsigned long long)t->size,
                    su_file_error(error));
}

static void unmap(void *target) {
    const Target *t = target;
    if (t->file) munmap(t->file, t->size);
}

bool rt_packed_write(const char *path, const PgProgram *program, const RtStored *tensors, RtWorkers *workers, MossProgress progress,
                     void *progress_context, SuDiags *diags) {
    SuOut out;
    if (!su_out_open(path, &out, diags)) return false;
    Target t = {.front = rt_packed_front(program)};
    t.size = t.front.header->data_offset + program->weight_bytes;
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, unmap, &t);
    bool ok = map_target(&out, &t, diags) && fill(&t, program, tensors, workers, progress, progress_context, diags);
    if (ok && !su_out_can_map(&out)) fwrite(t.file, 1, t.size, out.file);
    su_cleanup_done(&cleanup);
    unmap(&t);
    su_free(t.front.bytes);
    if (!ok) {
        su_out_abort(&out);
        return false;
    }
    return su_out_commit(&out, diags);
}
