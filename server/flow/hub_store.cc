#include "server/flow/hub_store.h"

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_util.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

using store::v1::EventRecord;
using store::v1::ReleaseRecord;
using store::v1::RequestRecord;
using store::v1::SuiteRecord;

constexpr size_t kPageDefault = 50;
constexpr size_t kPageMax = 1000;
constexpr size_t kReadAhead = 256;
constexpr char kIndexEnd = '\0';

// Puts the length of every run of digits before it, so that byte order is the
// order of the numbers. Distinct names stay distinct: names hold no bytes
// below '-' other than these lengths, and a length is always followed by that
// many digits.
std::string NaturalOrder(absl::string_view name) {
  std::string out;
  for (size_t i = 0; i < name.size();) {
    size_t end = i;
    while (end < name.size() &&
           absl::ascii_isdigit(static_cast<unsigned char>(name[end]))) {
      ++end;
    }
    if (end > i) {
      out.push_back(static_cast<char>(std::min<size_t>(end - i, 255)));
      out.append(name.data() + i, end - i);
      i = end;
    } else {
      out.push_back(name[i++]);
    }
  }
  return out;
}

std::string Fingerprint(const google::protobuf::Message& request) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream out(&stream);
    out.SetSerializationDeterministic(true);
    request.SerializeToCodedStream(&out);
  }
  return Digest::Of(bytes).hex();
}

std::string RequestName(absl::string_view user, absl::string_view method,
                        absl::string_view request_id) {
  return absl::StrCat(user, "/", method, "/", request_id);
}

std::vector<SuiteRecord> LastOfEach(std::vector<SuiteRecord> versions) {
  std::map<std::string, SuiteRecord> newest;
  for (auto& version : versions) {
    std::string name = version.suite().name();
    newest[std::move(name)] = std::move(version);
  }
  std::vector<SuiteRecord> out;
  for (auto& [name, record] : newest) out.push_back(std::move(record));
  return out;
}

}  // namespace

std::string HubReader::TableKey(absl::string_view prefix,
                                absl::string_view name) {
  return absl::StrCat("t/", prefix, NaturalOrder(name));
}

std::string HubReader::IndexPrefix(absl::string_view index,
                                   absl::string_view value_prefix) {
  return absl::StrCat("i/", index, "/", value_prefix);
}

std::string HubReader::IndexKey(absl::string_view index,
                                absl::string_view value,
                                absl::string_view key) {
  return absl::StrCat(IndexPrefix(index, value),
                      absl::string_view(&kIndexEnd, 1), key);
}

absl::Status HubReader::NotFound(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat(name, " does not exist"));
}

absl::Status HubReader::BrokenRecord(absl::string_view name) {
  return absl::DataLossError(absl::StrCat("the stored record '",
                                          absl::CHexEscape(name),
                                          "' is missing or cannot be parsed"));
}

absl::StatusOr<size_t> HubReader::PageSize(const PageRequest& request) {
  if (request.size < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size ", request.size, " is negative"));
  }
  if (request.size == 0) return kPageDefault;
  return std::min(static_cast<size_t>(request.size), kPageMax);
}

absl::StatusOr<HubReader::PageCursor> HubReader::OpenPage(
    const std::string& prefix, const std::string& token) {
  std::string rest;
  if (!absl::WebSafeBase64Unescape(token, &rest)) {
    return absl::InvalidArgumentError(
        "page_token is not one that a previous page gave");
  }
  return PageCursor(prefix, rest);
}

HubReader::PageCursor::PageCursor(std::string prefix, absl::string_view rest)
    : prefix_(std::move(prefix)),
      end_(PrefixEnd(prefix_)),
      next_(absl::StrCat(prefix_, rest)) {}

absl::StatusOr<std::optional<KeyValue>> HubReader::PageCursor::Next(
    const MetadataReader& reader) {
  if (at_ == ahead_.size()) {
    CAIRN_ASSIGN_OR_RETURN(ahead_, reader.Scan(next_, end_, kReadAhead));
    at_ = 0;
    if (ahead_.empty()) return std::optional<KeyValue>();
    // The smallest key after the last one read.
    next_ = absl::StrCat(ahead_.back().key, absl::string_view("\0", 1));
  }
  return std::optional<KeyValue>(std::move(ahead_[at_++]));
}

absl::StatusOr<std::string> HubReader::PageCursor::Token(
    const MetadataReader& reader) const {
  std::string first_left;
  if (at_ < ahead_.size()) {
    first_left = ahead_[at_].key;
  } else {
    CAIRN_ASSIGN_OR_RETURN(auto more, reader.Scan(next_, end_, 1));
    if (more.empty()) return std::string();
    first_left = more.front().key;
  }
  return absl::WebSafeBase64Escape(first_left.substr(prefix_.size()));
}

absl::StatusOr<std::optional<std::string>> HubReader::ReadKey(
    const std::string& key) const {
  return reader_.Get(key);
}

absl::StatusOr<std::vector<KeyValue>> HubReader::ScanPrefix(
    const std::string& prefix, size_t limit) const {
  return reader_.Scan(prefix, PrefixEnd(prefix), limit);
}

absl::StatusOr<std::optional<std::string>> HubReader::ReplayedBytes(
    absl::string_view user, absl::string_view method,
    absl::string_view request_id,
    const google::protobuf::Message& request) const {
  if (request_id.empty()) return std::optional<std::string>();
  CAIRN_ASSIGN_OR_RETURN(
      auto record, Find<RequestRecord>(RequestName(user, method, request_id)));
  if (!record.has_value()) return std::optional<std::string>();
  if (record->fingerprint() != Fingerprint(request)) {
    return absl::InvalidArgumentError(
        absl::StrCat("request_id '", request_id, "' was used for another ",
                     method, " request; use a new one for a new request"));
  }
  return std::optional<std::string>(record->response());
}

absl::StatusOr<SuiteRecord> HubReader::GetSuite(absl::string_view name) const {
  CAIRN_ASSIGN_OR_RETURN(auto versions,
                         ListAll<SuiteRecord>(absl::StrCat(name, "/")));
  if (versions.empty()) return NotFound(name);
  return std::move(versions.back());
}

absl::StatusOr<std::vector<SuiteRecord>> HubReader::ActiveSuites(
    absl::string_view model) const {
  CAIRN_ASSIGN_OR_RETURN(auto all,
                         ListAll<SuiteRecord>(absl::StrCat(model, "/suites/")));
  std::erase_if(all, [](const SuiteRecord& record) {
    return record.suite().state() != v1::Suite::ACTIVE;
  });
  return LastOfEach(std::move(all));
}

absl::StatusOr<std::vector<SuiteRecord>> HubReader::NewestSuites(
    absl::string_view model) const {
  CAIRN_ASSIGN_OR_RETURN(auto all,
                         ListAll<SuiteRecord>(absl::StrCat(model, "/suites/")));
  return LastOfEach(std::move(all));
}

absl::StatusOr<ReleaseRecord> HubReader::Head(absl::string_view model) const {
  CAIRN_ASSIGN_OR_RETURN(
      auto tag, Get<store::v1::TagRecord>(absl::StrCat(model, "/tags/latest")));
  return Get<ReleaseRecord>(tag.tag().release());
}

void HubTransaction::PutIndexes(const std::vector<IndexEntry>& entries,
                                const std::string& key) {
  for (const IndexEntry& entry : entries) {
    transaction_.Put(IndexKey(entry.index, entry.value, key), key);
  }
}

void HubTransaction::DeleteIndexes(const std::vector<IndexEntry>& entries,
                                   const std::string& key) {
  for (const IndexEntry& entry : entries) {
    transaction_.Delete(IndexKey(entry.index, entry.value, key));
  }
}

absl::StatusOr<int64_t> HubTransaction::NextNumber(absl::string_view counter) {
  std::string key = absl::StrCat("n/", counter);
  CAIRN_ASSIGN_OR_RETURN(auto bytes, transaction_.Get(key));
  int64_t last = 0;
  if (bytes.has_value() && !absl::SimpleAtoi(*bytes, &last)) {
    return BrokenRecord(key);
  }
  transaction_.Put(key, absl::StrCat(last + 1));
  return last + 1;
}

absl::Status HubTransaction::AppendEvent(absl::string_view model,
                                         v1::Event event) {
  CAIRN_ASSIGN_OR_RETURN(int64_t sequence,
                         NextNumber(absl::StrCat(model, "/events")));
  event.set_sequence(sequence);
  *event.mutable_create_time() = ToTimestamp(now_);
  EventRecord record;
  record.set_model(std::string(model));
  *record.mutable_event() = std::move(event);
  return Put(record);
}

absl::Status HubTransaction::Remember(
    absl::string_view user, absl::string_view method,
    absl::string_view request_id, const google::protobuf::Message& request,
    const google::protobuf::Message& response) {
  if (request_id.empty()) return absl::OkStatus();
  RequestRecord record;
  record.set_user(std::string(user));
  record.set_method(std::string(method));
  record.set_request_id(std::string(request_id));
  record.set_fingerprint(Fingerprint(request));
  record.set_response(response.SerializeAsString());
  *record.mutable_create_time() = ToTimestamp(now_);
  return Put(record);
}

absl::Status HubStore::Transact(
    const std::function<absl::Status(HubTransaction&)>& fn) {
  CAIRN_RETURN_IF_ERROR(store_.Transact([&](MetadataTransaction& raw) {
    HubTransaction transaction(raw, clock_.Now());
    return fn(transaction);
  }));
  WakeAll();
  return absl::OkStatus();
}

int64_t HubStore::changes() const {
  MutexLock lock(mutex_);
  return changes_;
}

int64_t HubStore::WaitForChange(int64_t seen, absl::Duration timeout) const {
  absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(mutex_);
  while (changes_ == seen) {
    absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) break;
    changed_.WaitFor(mutex_, left);
  }
  return changes_;
}

void HubStore::WakeAll() {
  MutexLock lock(mutex_);
  ++changes_;
  changed_.NotifyAll();
}

absl::Status CheckEtag(absl::string_view name, absl::string_view etag,
                       absl::string_view given) {
  if (given.empty() || given == etag) return absl::OkStatus();
  return ReasonedError(
      absl::StatusCode::kAborted, "ETAG_MISMATCH",
      absl::StrCat(name, " changed since it was read (etag ", given, ", now ",
                   etag, "); read it again and repeat the decision"),
      {{"resource", std::string(name)}});
}

}  // namespace cairn
