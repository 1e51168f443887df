#ifndef CAIRN_TESTS_SUPPORT_SMALL_WORLD_H_
#define CAIRN_TESTS_SUPPORT_SMALL_WORLD_H_

#include <string>
#include <vector>

namespace cairn::testing {

// A byte-level Llama of some 50,000 weights, made by `cairn train` in seconds
// on text of two made-up languages; a suite for each, and honest updates that
// learn more of one. Deterministic.
class SmallWorld {
 public:
  // An update and the suite that it gets better on.
  struct Update {
    std::string name;
    std::string claim;
  };

  // Builds everything under `root`; aborts the test program when a command
  // fails.
  static SmallWorld Build(const std::string& root);

  std::string base() const;
  std::string suite(const std::string& name) const;
  std::string update(const std::string& name) const;

  static const std::vector<std::string>& suites();
  static const std::vector<Update>& updates();

 private:
  explicit SmallWorld(std::string root);

  std::string root_;
};

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_SUPPORT_SMALL_WORLD_H_
