#ifndef CAIRN_TESTS_FAULT_LEDGER_H_
#define CAIRN_TESTS_FAULT_LEDGER_H_

#include <cstdint>
#include <map>
#include <string>

namespace cairn::testing {

// What a hub was asked for and what it acknowledged, kept outside of it in a
// file that outlives any kill: a line a fact, in the order of the answers.
class Ledger {
 public:
  struct Upload {
    std::string name;  // as it was acknowledged; empty: it was not
    int64_t committed = 0;
    bool is_finishing = false;
    bool is_cancelling = false;
  };
  struct Facts {
    std::map<uint64_t, Upload> uploads;           // by seed
    std::map<std::string, int64_t> blobs;         // sizes by SHA-256
    std::map<std::string, std::string> models;    // release digests by id
    std::map<std::string, std::string> releases;  // digests by name
  };

  explicit Ledger(const std::string& path);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // One fact; thread-safe.
  void Begun(uint64_t seed, const std::string& name);
  void Committed(uint64_t seed, int64_t bytes);
  // About to be: whether it was done nobody may learn.
  void Finishing(uint64_t seed);
  void Cancelling(uint64_t seed);
  void Stored(const std::string& sha256, int64_t size);
  // From now on a sweep may take what was stored before and nothing names.
  void Aged();
  void Model(const std::string& id, const std::string& digest);
  void Release(const std::string& name, const std::string& digest);

  // All facts of a file; none when there is no file.
  static Facts Read(const std::string& path);

 private:
  void Write(const std::string& line);

  int fd_;
};

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_FAULT_LEDGER_H_
