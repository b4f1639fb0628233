// A consumer in C++17: the same headers, with owners for what must be given back, and lambdas.
//
//     c++ -std=c++17 -O2 -I "$(python -c 'import mdsys; print(mdsys.get_include())')"
//         consumer.cpp -o consumer
//     ./consumer default lossless park BINANCE:BTCUSDT
//
// What it does and prints is what consumer.c does and prints, which explains more of it. An
// exception in a lambda ends it, after it has named the record.

#include <array>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "mdsys/attach.h"
#include "mdsys/consumer.h"
#include "mdsys/refresh.h"
#include "mdsys/register.h"

namespace {

constexpr std::uint32_t batch_count = 256;
constexpr std::uint32_t room_count = batch_count * MD_PRESSED_FACTOR;
constexpr std::int64_t look_ns = 1'000'000'000; // how often it looks after itself

std::uint32_t stopped = 0; // the consumer's stop word

// ---- what the strategy does ---------------------------------------------------------------------

struct Strategy {
    std::uint64_t handled = 0;
    std::uint64_t trades = 0;
    std::uint64_t statuses = 0;

    void on_tick(const md_record &tick) {
        statuses += tick.kind == MD_KIND_STATUS;
        handled++;
    }
};

// ---- owners -------------------------------------------------------------------------------------

class Instance {
  public:
    explicit Instance(const char *called) : name(called), md(std::make_unique<md_instance>()) {
        md_segment_result result = md_attach(md.get(), called);
        if (result != MD_SEGMENT_OK) {
            throw std::runtime_error(name + ": " + md_segment_result_text(result));
        }
        for (std::uint32_t ring = 0; ring < md->ring_count; ring++) {
            rings.push_back(ring);
        }
    }
    ~Instance() {
        md_detach(md.get());
    }
    Instance(const Instance &) = delete;
    Instance &operator=(const Instance &) = delete;

    const std::string name;
    const std::unique_ptr<md_instance> md;
    std::vector<std::uint32_t> rings;
};

struct Manner {
    md_policy policy;
    md_wait wait;
};

// A page to count in: the daemon's while we are registered, else one of our own.
class Page {
  public:
    Page(const Instance &instance, Manner manner) {
        md_register_result result = ask(instance, manner);
        if (result == MD_REGISTER_OK) {
            return;
        }
        std::string why = md_register_result_text(result) + std::string(": ") + mine.refusal;
        if (manner.policy == MD_POLICY_LOSSLESS) {
            throw std::runtime_error("not registered: " + why); // nobody would wait for us
        }
        std::fprintf(stderr, "consumer: not registered: %s\n", why.c_str());
        own.reset(md_page_private());
        if (own == nullptr) {
            throw std::bad_alloc();
        }
    }
    ~Page() {
        md_unregister(&mine);
    }
    Page(const Page &) = delete;
    Page &operator=(const Page &) = delete;

    md_reader_page *get() const {
        return own ? own.get() : mine.page;
    }
    void wait_granted(const Instance &instance) const {
        const auto &rings = instance.rings;
        md_register_result result = md_wait_granted(
            &mine, instance.md.get(), rings.data(), ring_count(instance), MD_GRANT_NS);
        if (result != MD_REGISTER_OK) {
            throw std::runtime_error(md_register_result_text(result));
        }
    }
    // A restarted daemon does not know us yet.
    void keep(const Instance &instance, Manner manner, md_poller &poller) {
        if (own || md_registration_alive(&mine)) {
            return;
        }
        md_registration old = mine;
        if (ask(instance, manner) == MD_REGISTER_OK) {
            md_poller_move(&poller, mine.page);
            md_unregister(&old);
        } else {
            mine = old;
        }
    }

  private:
    static std::uint32_t ring_count(const Instance &instance) {
        return static_cast<std::uint32_t>(instance.rings.size());
    }
    md_register_result ask(const Instance &instance, Manner manner) {
        return md_register(&mine,
                           instance.md.get(),
                           instance.name.c_str(),
                           "consumer-cpp",
                           manner.policy,
                           manner.wait,
                           instance.rings.data(),
                           ring_count(instance),
                           MD_ANY_CORE);
    }
    struct Free {
        void operator()(md_reader_page *page) const {
            std::free(page);
        }
    };
    md_registration mine{};
    std::unique_ptr<md_reader_page, Free> own;
};

// ---- the consumer -------------------------------------------------------------------------------

class Consumer {
  public:
    Consumer(const char *name, Manner how) : instance(name), manner(how), page(instance, how) {
        md_poller &poller = loop.poller;
        poller.page = page.get();
        poller.policy = manner.policy;
        entries.resize(std::size_t{instance.md->symbols->capacity} + 1);
        conflation = {entries.data(), entries.size(), 0};
        poller.conflation = &conflation;
        sources.resize(instance.rings.size());
        poller.sources = sources.data();
        poller.source_count = static_cast<std::uint32_t>(sources.size());
        bool registered = poller.page->reader_id != 0;
        for (std::uint32_t ring : instance.rings) {
            md_source_init(&sources[ring],
                           instance.md->ring[ring],
                           poller.page,
                           registered ? poller.page->max_queue_size : UINT64_MAX,
                           registered ? poller.page->threshold : MD_SHARE_ONE / 10 * 8);
            first.push_back(sources[ring].reader.next);
            sources[ring].reader.missed = 0; // the first refresh tells of what was before
        }
        if (manner.policy == MD_POLICY_LOSSLESS) {
            page.wait_granted(instance);
        }
        loop.batch = batch.data();
        loop.wait = manner.wait;
        loop.waiter.stop = &stopped;
        loop.adaptive = 1;
    }

    // No symbol chosen: all of them.
    void choose(const std::string &symbol) {
        const md_symbols_header *symbols = instance.md->symbols;
        const md_symbol *entry = md_symbols_find(symbols, symbol.data(), symbol.size());
        if (entry == nullptr) {
            throw std::invalid_argument("no symbol " + symbol + " in this instance");
        }
        wanted.resize(symbols->capacity / 64 + 1);
        wanted[entry->symbol_id / 64] |= std::uint64_t{1} << (entry->symbol_id % 64);
        loop.poller.wanted = wanted.data();
        loop.poller.wanted_count = wanted.size() * 64;
    }

    // Call what is callable with a record for each record of these kinds (a mask; 0: all), and for
    // statuses. It must outlive the consumer. An exception must not pass through the C loop.
    template <class Callable> void on(std::uint32_t kinds, Callable &callable) {
        md_handler handler{};
        handler.call = [](const md_record *records, std::uint64_t count, void *state) {
            for (std::uint64_t i = 0; i < count; i++) {
                try {
                    (*static_cast<Callable *>(state))(records[i]);
                } catch (const std::exception &error) {
                    std::fprintf(stderr, "consumer: %s\n", error.what());
                    return i;
                }
            }
            return count;
        };
        handler.state = &callable;
        handler.kinds = kinds;
        handler.picked = picked.data();
        handlers.push_back(handler);
    }

    // Until the stop word is set, a handler fails or the instance is replaced; then what was
    // published by then.
    void run() {
        loop.handlers = handlers.data();
        loop.handler_count = static_cast<std::uint32_t>(handlers.size());
        md_consumer_begin(&loop, batch_count, room_count);
        for (bool going = true; going;) {
            refresh();
            bool superseded = md_instance_superseded(instance.md.get()) != 0;
            switch (md_consumer_run(&loop, md_monotonic_ns() + look_ns)) {
            case MD_CONSUMER_STOP:
                going = false;
                break;
            case MD_CONSUMER_FAILED:
                std::fprintf(stderr, "consumer: failed at record %" PRIu64 "\n", loop.failed.seq);
                return;
            case MD_CONSUMER_TIME:
                page.keep(instance, manner, loop.poller);
                going = !superseded || md_poller_ready(&loop.poller);
                break;
            case MD_CONSUMER_NEWS:
            case MD_CONSUMER_BATCH:
                break;
            }
        }
        drain();
    }

    // One line of JSON. Returns whether every record is accounted for.
    bool account(const Strategy &strategy) const {
        const md_reader_page &now = *loop.poller.page;
        std::uint64_t published = 0;
        for (std::size_t i = 0; i < sources.size(); i++) {
            published += sources[i].reader.next - first[i];
        }
        bool holds =
            strategy.handled == now.received &&
            now.received + now.filtered + now.conflated + now.dropped + now.lost == published;
        std::printf("{\"holds\": %s, \"published\": %" PRIu64 ", \"handled\": %" PRIu64
                    ", \"trades\": %" PRIu64 ", \"statuses\": %" PRIu64,
                    holds ? "true" : "false",
                    published,
                    strategy.handled,
                    strategy.trades,
                    strategy.statuses);
#define PRINT_COUNTER(name, type, family, labels, help)                                            \
    std::printf(", \"" #name "\": %" PRIu64, now.name);
        MD_READER_COUNTERS(PRINT_COUNTER)
        std::printf(", \"reader\": %" PRIu64 ", \"rings\": [", now.reader_id);
        for (std::size_t i = 0; i < sources.size(); i++) {
            std::uint64_t from = 0, ejected = 0;
            md_reader_granted(instance.md->ring[i], now.reader_id, &from, &ejected);
            std::printf("%s{\"first\": %" PRIu64 ", \"next\": %" PRIu64
                        ", \"granted_from\": %" PRIu64 ", \"ejected\": %" PRIu64 "}",
                        i == 0 ? "" : ", ",
                        first[i],
                        sources[i].reader.next,
                        from,
                        ejected);
        }
        std::printf("]}\n");
        return holds;
    }

  private:
    void refresh() {
        md_refresh progress{};
        std::uint64_t count = 1;
        while (count != 0 && md_poller_has_missed(&loop.poller)) {
            count = md_poller_refresh(&loop.poller,
                                      instance.md->symbols,
                                      instance.md->cache,
                                      &progress,
                                      batch.data(),
                                      batch.size()); // batch[0..count) are what is true now
        }
    }

    void drain() {
        loop.waiter.stop = nullptr;
        for (const md_source &source : sources) {
            const md_ring_reader &reader = source.reader;
            std::uint64_t head = md_ring_head(reader.header, reader.slots, reader.mask);
            while (reader.next <= head && md_consumer_run(&loop, 0) != MD_CONSUMER_FAILED) {
            }
        }
    }

    Instance instance;
    Manner manner;
    Page page;
    std::vector<md_source> sources;
    std::vector<std::uint64_t> first; // the sequence that each ring is read from
    std::vector<std::uint64_t> wanted;
    std::vector<md_conflation_entry> entries;
    md_conflation conflation{};
    std::vector<md_handler> handlers;
    md_consumer loop{};
    alignas(64) std::array<md_record, room_count> batch;
    alignas(64) std::array<md_record, room_count> picked;
};

// Returns the number of a name, or -1.
int number_of(const std::string &name, const char *(*text)(std::uint32_t)) {
    for (std::uint32_t i = 0; text(i) != nullptr; i++) {
        if (name == text(i)) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

} // namespace

int main(int argc, char **argv) {
    int policy = argc < 4 ? -1 : number_of(argv[2], md_policy_text);
    int wait = argc < 4 ? -1 : number_of(argv[3], md_wait_text);
    if (policy < 0 || wait < 0) {
        std::fprintf(stderr, "usage: %s INSTANCE POLICY WAIT [VENUE:SYMBOL]...\n", argv[0]);
        return 64;
    }
    struct sigaction action = {};
    action.sa_handler = [](int) { md_store_release_u32(&stopped, 1); };
    action.sa_flags = static_cast<int>(SA_RESETHAND); // a second one ends it at once
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    try {
        Strategy strategy;
        auto consumer = std::make_unique<Consumer>(
            argv[1], Manner{static_cast<md_policy>(policy), static_cast<md_wait>(wait)});
        for (int i = 4; i < argc; i++) {
            consumer->choose(argv[i]);
        }
        auto on_all = [&strategy](const md_record &tick) { strategy.on_tick(tick); };
        auto on_trade = [&strategy](const md_record &tick) {
            strategy.trades += tick.kind == MD_KIND_TRADE; // statuses come, too
        };
        consumer->on(0, on_all);
        consumer->on(1u << MD_KIND_TRADE, on_trade);
        std::fprintf(stderr, "consumer: reads %s\n", argv[1]);
        consumer->run();
        return consumer->account(strategy) ? 0 : 1;
    } catch (const std::invalid_argument &error) {
        std::fprintf(stderr, "consumer: %s\n", error.what());
        return 64;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "consumer: %s\n", error.what());
        return 69;
    }
}
