// The whole way of an update, undisturbed and with hub and worker killed at
// random moments: both must end alike.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/support/live_hub.h"
#include "tests/support/small_world.h"

namespace cairn::testing {
namespace {

constexpr int kKills = 10;
constexpr absl::Duration kPatience = absl::Minutes(2);

// How a line of work came to its end.
struct Outcome {
  std::map<std::string, std::string> state_of_update;
  std::set<std::string> versions;
  std::string latest_digest;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  for (const auto& [update, state] : outcome.state_of_update) {
    out << update << " " << state << ", ";
  }
  for (const std::string& version : outcome.versions) out << version << " ";
  return out << outcome.latest_digest;
}

// Brings the hub back, with nothing armed, whenever it dies.
class Reviver {
 public:
  explicit Reviver(LiveHub& hub)
      : thread_([this, &hub](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            if (!hub.IsRunning()) {
              hub.Start();
              ++deaths_;
            }
            absl::SleepFor(absl::Milliseconds(10));
          }
        }) {}

  int deaths() const { return deaths_; }

 private:
  std::atomic<int> deaths_ = 0;
  std::jthread thread_;
};

// Kills hub or worker at seeded moments until all kills are spent, and brings
// what it killed back at once.
class Killer {
 public:
  Killer(LiveHub& hub, uint64_t seed) : hub_(hub), random_(seed) {}

  // Strikes `times` times, each within `longest` of the last.
  void Strike(int times, absl::Duration longest) {
    for (int i = 0; i < times; ++i) {
      absl::SleepFor(longest *
                     std::uniform_real_distribution<>(0.02, 1)(random_));
      if (random_() % 2 == 0) {
        hub_.Kill();
        hub_.Start();
      } else {
        hub_.KillWorker(0);
        hub_.StartWorker(0);
      }
    }
  }

 private:
  LiveHub& hub_;
  std::mt19937_64 random_;
};

class KillTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    root_ = new std::string(
        absl::StrCat(::testing::TempDir(), "/cairn-kill-", ::getpid()));
    world_ = new SmallWorld(SmallWorld::Build(absl::StrCat(*root_, "/world")));
  }
  static void TearDownTestSuite() {
    std::filesystem::remove_all(*root_);
    delete world_;
    delete root_;
  }

  static uint64_t Seed() {
    const char* given = std::getenv("CAIRN_SEED");
    uint64_t seed = 20251;
    if (given != nullptr) {
      EXPECT_TRUE(absl::SimpleAtoi(given, &seed)) << "CAIRN_SEED=" << given;
    }
    return seed;
  }

  // A hub with the model, its suites and people, before any push.
  static void SetUpHub(LiveHub& hub) {
    hub.Start();
    hub.AddPerson("ada", "maintainer");
    hub.AddPerson("bob", "contributor");
    hub.StartWorker(0);
    Expect(hub, "ada",
           {"model", "create", "small", "--from", world_->base(), "--license",
            "MIT"});
    for (const std::string& suite : SmallWorld::suites()) {
      Expect(hub, "ada",
             {"suite", "add", "small", suite, "--from", world_->suite(suite),
              "--protected", "--margin", "0.2"});
    }
  }

  static CommandResult Expect(LiveHub& hub, const std::string& person,
                              const std::vector<std::string>& args) {
    CommandResult result = hub.Run(person, args);
    EXPECT_EQ(result.code, 0)
        << args[0] << " " << args[1] << ": " << result.out << result.err;
    return result;
  }

  // Repeats a push until it is acknowledged; the contribution's name.
  static std::string PersistentPush(LiveHub& hub,
                                    const SmallWorld::Update& update) {
    const absl::Time deadline = absl::Now() + kPatience;
    while (absl::Now() < deadline) {
      CommandResult result =
          hub.Run("bob", {"push", "small", world_->update(update.name),
                          "--claim", update.claim, "--license", "MIT"});
      if (result.code == 0) return result.json().value("name", "");
      // A killed hub is unavailable; it refuses nothing and breaks nothing.
      EXPECT_THAT(result.code, ::testing::AnyOf(1, 8))
          << result.out << result.err;
    }
    ADD_FAILURE() << update.name << " was never acknowledged";
    return "";
  }

  static std::string StateOf(LiveHub& hub, const std::string& name) {
    CommandResult result = hub.Run("ada", {"status", name});
    return result.code == 0 ? result.json().value("state", "") : "";
  }

  // Waits until every contribution is in one of `states`; approves what waits
  // for people.
  static void Settle(LiveHub& hub, const std::vector<std::string>& names,
                     const std::set<std::string>& states) {
    const absl::Time deadline = absl::Now() + kPatience;
    for (const std::string& name : names) {
      std::string state = StateOf(hub, name);
      while (!states.contains(state) && absl::Now() < deadline) {
        if (state == "NEEDS_REVIEW") {
          hub.Run("ada", {"review", "approve", name, "--note", "fine"});
        }
        absl::SleepFor(absl::Milliseconds(50));
        state = StateOf(hub, name);
      }
      EXPECT_TRUE(states.contains(state)) << name << " is " << state;
    }
  }

  // Pushes, merges, looks; with a killer, under fire.
  static Outcome RunLine(const std::string& root,
                         std::optional<uint64_t> seed) {
    LiveHub hub(root);
    SetUpHub(hub);
    std::vector<std::string> names;
    {
      std::optional<std::jthread> fire = Fire(hub, seed, absl::Seconds(1));
      for (const SmallWorld::Update& update : SmallWorld::updates()) {
        names.push_back(PersistentPush(hub, update));
      }
    }
    Settle(hub, names, {"QUEUED", "REJECTED"});
    CommandResult started =
        hub.Run("ada", {"batch", "start", "small", "--strategy", "average"});
    EXPECT_EQ(started.code, 0) << started.out << started.err;
    {
      std::optional<std::jthread> fire =
          Fire(hub, seed ? std::optional(*seed + 1) : seed, absl::Seconds(1.5));
    }
    Settle(hub, names, {"RELEASED", "REJECTED"});
    return Look(hub, names);
  }

  // The same with the hub dead at a step, once.
  static Outcome RunLineDyingAt(const std::string& root,
                                const std::string& step) {
    LiveHub hub(root);
    SetUpHub(hub);
    hub.Kill();
    hub.Start(absl::StrCat(step, "=crash"));
    std::vector<std::string> names;
    {
      Reviver reviver(hub);
      for (const SmallWorld::Update& update : SmallWorld::updates()) {
        names.push_back(PersistentPush(hub, update));
      }
      Settle(hub, names, {"QUEUED", "REJECTED"});
      hub.Run("ada", {"batch", "start", "small", "--strategy", "average"});
      Settle(hub, names, {"RELEASED", "REJECTED"});
      EXPECT_EQ(reviver.deaths(), 1) << "the step was not reached";
    }
    return Look(hub, names);
  }

  static const Outcome& CalmOutcome() {
    static const Outcome outcome =
        RunLine(absl::StrCat(*root_, "/calm"), std::nullopt);
    return outcome;
  }

  static std::optional<std::jthread> Fire(LiveHub& hub,
                                          std::optional<uint64_t> seed,
                                          absl::Duration longest) {
    if (!seed.has_value()) return std::nullopt;
    return std::jthread([&hub, seed = *seed, longest] {
      Killer(hub, seed).Strike(kKills / 2, longest);
    });
  }

  static Outcome Look(LiveHub& hub, const std::vector<std::string>& names) {
    Outcome outcome;
    for (size_t i = 0; i < names.size(); ++i) {
      outcome.state_of_update[SmallWorld::updates()[i].name] =
          StateOf(hub, names[i]);
    }
    // Nothing twice, nothing half stored.
    EXPECT_EQ(Expect(hub, "ada", {"contribution", "list", "small"})
                  .json()
                  .at("items")
                  .size(),
              names.size());
    Expect(hub, "ada", {"admin", "check"});
    const nlohmann::json releases =
        Expect(hub, "ada", {"release", "list", "small"}).json().at("items");
    for (const nlohmann::json& release : releases) {
      const std::string version = release.value("version", "");
      outcome.versions.insert(version);
      const std::string dir = absl::StrCat(hub.root(), "/pulled-", version);
      Expect(hub, "ada", {"pull", absl::StrCat("small@", version), dir});
      Expect(hub, "ada", {"verify", dir});
    }
    outcome.latest_digest =
        Expect(hub, "ada", {"release", "show", "small@latest"})
            .json()
            .value("digest", "");
    return outcome;
  }

  static std::string* root_;
  static SmallWorld* world_;
};

std::string* KillTest::root_ = nullptr;
SmallWorld* KillTest::world_ = nullptr;

TEST_F(KillTest, KilledHubAndWorkerEndAsIfNothingHadHappened) {
  const Outcome& calm = CalmOutcome();
  for (const auto& [update, state] : calm.state_of_update) {
    EXPECT_EQ(state, "RELEASED") << update;
  }
  EXPECT_EQ(calm.versions, (std::set<std::string>{"v1.0.0", "v1.1.0"}));
  const uint64_t seed = Seed();
  SCOPED_TRACE(absl::StrCat("CAIRN_SEED=", seed));
  const Outcome stormy = RunLine(absl::StrCat(*root_, "/stormy"), seed);
  EXPECT_EQ(stormy, calm);
}

// A quarter of a minute a step, so only when CAIRN_EVERY is set.
TEST_F(KillTest, HubThatDiesPublishingEndsAsIfNothingHadHappened) {
  if (std::getenv("CAIRN_EVERY") == nullptr) {
    GTEST_SKIP() << "CAIRN_EVERY=1 runs it";
  }
  for (const char* step : {"contribution.created", "release.assembled",
                           "release.sealed", "release.published"}) {
    SCOPED_TRACE(step);
    EXPECT_EQ(RunLineDyingAt(absl::StrCat(*root_, "/", step), step),
              CalmOutcome());
  }
}

TEST_F(KillTest, AcknowledgedPushSurvivesAnImmediateKill) {
  LiveHub hub(absl::StrCat(*root_, "/immediate"));
  SetUpHub(hub);
  CommandResult pushed =
      hub.Run("bob", {"push", "small", world_->update("alpha-lora"), "--claim",
                      "alpha", "--license", "MIT"});
  hub.Kill();
  ASSERT_EQ(pushed.code, 0) << pushed.out << pushed.err;
  hub.Start();
  const std::string name = pushed.json().value("name", "");
  EXPECT_EQ(Expect(hub, "bob", {"status", name}).json().value("digest", "-"),
            pushed.json().value("digest", ""));
}

TEST_F(KillTest, SecondHubOnTheSameDataIsRefused) {
  LiveHub hub(absl::StrCat(*root_, "/rivals"));
  hub.Start();
  ProcessResult rival = RunProcess(
      {ProgramPath("cairnd"), "--data-dir", absl::StrCat(hub.root(), "/hub"),
       "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"},
      {}, absl::Seconds(20));
  EXPECT_THAT(rival.code,
              ::testing::AllOf(::testing::Gt(0), ::testing::Lt(128)));
  EXPECT_THAT(rival.err, ::testing::HasSubstr("hub"));
  EXPECT_EQ(hub.Stop(), 0);
}

}  // namespace
}  // namespace cairn::testing
