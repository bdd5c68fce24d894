/* Things that are due at a time, soonest first: a binary heap of entries that live in their owners.
 * Define DUE_MAX, the most entries there can be, before including this. */
#include <stddef.h>
#include <stdint.h>

struct due {
    uint64_t at;
    size_t slot; /* its place in the heap */
};

static struct due *due_heap[DUE_MAX];
static size_t due_count;

static struct due *due_first(void) {
    return due_count ? due_heap[0] : NULL;
}

static void due_place(size_t slot, struct due *entry) {
    due_heap[slot] = entry;
    entry->slot = slot;
}

/* Puts an entry whose slot or time has changed where it belongs. */
static void due_settle(struct due *entry) {
    size_t i = entry->slot;
    for (; i && due_heap[(i - 1) / 2]->at > entry->at; i = (i - 1) / 2) due_place(i, due_heap[(i - 1) / 2]);
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < due_count && due_heap[child + 1]->at < due_heap[child]->at) child++;
        if (child >= due_count || due_heap[child]->at >= entry->at) break;
        due_place(i, due_heap[child]);
        i = child;
    }
    due_place(i, entry);
}

static void due_move(struct due *entry, uint64_t at) {
    entry->at = at;
    due_settle(entry);
}

static void due_add(struct due *entry, uint64_t at) {
    due_place(due_count++, entry);
    due_move(entry, at);
}

static void due_remove(struct due *entry) {
    struct due *last = due_heap[--due_count];
    if (last == entry) return;
    last->slot = entry->slot;
    due_settle(last);
}
