// The end of a text that the emulated compiler compiles: what the driver can launch. A parameter's type is the entry's own.
#pragma once
#include <type_traits>
#include <utility>

#include "image.h"

namespace emulated {

template <auto KERNEL> struct Entry;

template <class... P, void (*KERNEL)(P...)> struct Entry<KERNEL> {
    static_assert(sizeof...(P) <= ENTRY_PARAMS && ((sizeof(P) <= ENTRY_PARAM_BYTES) && ...),
                  "fewer and smaller parameters, please");

    template <size_t... I> static void call(void *const *params, std::index_sequence<I...>) {
        KERNEL(*static_cast<std::remove_cv_t<P> *>(params[I])...);
    }
    static void run(const SimtLaunch *launch) { call(launch->params, std::index_sequence_for<P...>()); }
    static constexpr EmulatedEntry named(const char *name, unsigned threads) {
        return {name, run, threads, sizeof...(P), {sizeof(P)...}};
    }
};

} // namespace emulated

#define EMULATED_ENTRY(name, threads) emulated::Entry<&name>::named(#name, threads)
#define EMULATED_GLOBAL(name) {#name, name, sizeof name}
