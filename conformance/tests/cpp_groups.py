"""Kernels of thread groups as C++: the threads of a group are coroutines that meet at barriers.

A thread runs until a barrier, then the next one does; the order turns round after every barrier.
So what one thread reads of another without a barrier between them is old, or not there yet, every
time. Shared memory begins as NaN. Threads that do not all meet at the same barriers are an error.
"""

from __future__ import annotations

from snnx.emit import Source
from snnx.emit.c_text import cpp_name, parameter

HEADER = """\
#include <limits>
#include <ucontext.h>
#include <vector>
static ucontext_t snn_main;
static std::vector<ucontext_t> snn_threads;
static std::vector<bool> snn_done;
static size_t snn_group, snn_lane, snn_width;
static bool snn_fresh;
template <typename T> static void snn_spoil(T* shared, size_t count) {
    if (snn_fresh)
        for (size_t i = 0; i < count; ++i) shared[i] = std::numeric_limits<T>::quiet_NaN();
    snn_fresh = false;
}
#define SNN_GROUP snn_group
#define SNN_LANE (uint)snn_lane
#define SNN_WIDTH (uint)snn_width
#define SNN_SHARED(type, name, count) static type name[count]; snn_spoil(name, count)
#define SNN_BARRIER swapcontext(&snn_threads[snn_lane], &snn_main)
static int snn_run(void (*entry)(), size_t width, size_t groups) {
    const size_t size = 1 << 16;
    std::vector<char> stacks(width * size);
    snn_width = width;
    for (snn_group = 0; snn_group < groups; ++snn_group) {
        snn_threads.assign(width, ucontext_t());
        snn_done.assign(width, false);
        snn_fresh = true;
        for (size_t i = 0; i < width; ++i) {
            getcontext(&snn_threads[i]);
            snn_threads[i].uc_stack.ss_sp = &stacks[i * size];
            snn_threads[i].uc_stack.ss_size = size;
            snn_threads[i].uc_link = &snn_main;
            makecontext(&snn_threads[i], entry, 0);
        }
        for (size_t round = 0, left = width; left; ++round) {
            for (size_t i = 0; i < width; ++i) {
                snn_lane = round % 2 ? width - 1 - i : i;
                swapcontext(&snn_main, &snn_threads[snn_lane]);
                left -= snn_done[snn_lane];
            }
            if (left && left < width) return 1;
        }
    }
    return 0;
}
"""
_TYPES = {"data": "DATA", "float": "float", "byte": "uint8_t", "word": "WORD", "uint": "uint"}


def group_function(source: Source, data: str) -> str:
    """Return a function NAME_DATA(arrays, sizes, width, groups), 0 where all went well."""
    arrays = [a for a in source.arguments if a.role != "size"]
    parameters = ", ".join(parameter(a) for a in arrays)
    given = ", ".join(
        f"({'const ' if a.role == 'in' else ''}{_TYPES[a.kind]}*)held[{i}]"
        for i, a in enumerate(arrays)
    )
    name = cpp_name(source, data)
    return f"""\
namespace in_{name} {{
typedef {data} DATA;
typedef uint32_t WORD;
static void** held;
static const uint* numbers;
static void body({parameters}, const uint* SNN_RESTRICT sizes) {{
{source.text}}}
static void entry() {{
    body({given}, numbers);
    snn_done[snn_lane] = true;
}}
}}
extern "C" int {name}(void** arrays, const uint* sizes, size_t width, size_t groups) {{
    in_{name}::held = arrays;
    in_{name}::numbers = sizes;
    return snn_run(in_{name}::entry, width, groups);
}}
"""
