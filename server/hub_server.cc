#include "server/hub_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/host_port.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/base/thread_pool.h"
#include "core/rpc/limits.h"
#include "core/rpc/server_transport.h"
#include "core/rpc/stream_gate.h"
#include "core/tensor/safetensors.h"
#include "server/auth/authenticated_call.h"
#include "server/auth/identity_handler.h"
#include "server/auth/identity_service.h"
#include "server/auth/token_authority.h"
#include "server/backup/hub_backup.h"
#include "server/flow/schema.h"
#include "server/http/http_server.h"
#include "server/intake/contribution_handler.h"
#include "server/intake/contribution_intake.h"
#include "server/intake/upload_handler.h"
#include "server/intake/upload_sessions.h"
#include "server/jobs/job_queue.h"
#include "server/jobs/worker_handler.h"
#include "server/ops/admin_handler.h"
#include "server/ops/blob_pack_stage.h"
#include "server/ops/blob_scrub_stage.h"
#include "server/ops/blob_sweep_stage.h"
#include "server/ops/event_handler.h"
#include "server/ops/event_log.h"
#include "server/ops/hub_handler.h"
#include "server/ops/hub_metrics.h"
#include "server/ops/idle_stream_stage.h"
#include "server/ops/quota_handler.h"
#include "server/ops/retention_stage.h"
#include "server/ops/stage_runner.h"
#include "server/ops/storage_handler.h"
#include "server/ops/sweep_gate.h"
#include "server/pull/download_handler.h"
#include "server/pull/download_resolver.h"
#include "server/queue/batch_handler.h"
#include "server/queue/batch_service.h"
#include "server/queue/batch_stage.h"
#include "server/queue/hub_line_service.h"
#include "server/release/delta_stage.h"
#include "server/release/exchange_handler.h"
#include "server/release/local_exchange.h"
#include "server/release/model_catalog.h"
#include "server/release/model_handler.h"
#include "server/release/release_catalog.h"
#include "server/release/release_handler.h"
#include "server/release/release_publisher.h"
#include "server/release/release_signer.h"
#include "server/release/tag_handler.h"
#include "server/release/tag_table.h"
#include "server/review/review_handler.h"
#include "server/review/review_service.h"
#include "server/setup/certificate_authority.h"
#include "server/setup/hub_keys.h"
#include "server/setup/hub_setup.h"
#include "server/suite/suite_catalog.h"
#include "server/suite/suite_handler.h"
#include "server/suite/suite_reader.h"
#include "server/vet/gate_stage.h"
#include "server/vet/screen_stage.h"
#include "server/vet/suite_check_stage.h"
#include "storage/fs/fs_blob_store.h"
#include "storage/rocksdb/rocksdb_metadata_store.h"

namespace cairn {
namespace {

constexpr int kCallsPerConnection = 256;
constexpr int kWatchersMax = 1024;
// Syncs block; more of them would only take turns on the disk.
constexpr int kUploadWorkThreads = 4;
constexpr double kUpdateRatioMax = 2.0;
// On a small disk the reserve is this part of it at most.
constexpr int64_t kReserveShareMax = 16;
constexpr absl::Duration kExpiryWarning = absl::Hours(24 * 30);

std::string Under(const std::string& data_dir, const std::string& path) {
  return std::filesystem::path(data_dir) / path;
}

v1::QuotaAmounts AmountsOf(const HubConfig::Quota& quota) {
  v1::QuotaAmounts amounts;
  amounts.set_stored_bytes(quota.stored_bytes);
  amounts.set_open_uploads(quota.open_uploads);
  amounts.set_contributions_per_day(quota.contributions_per_day);
  return amounts;
}

QuotaDefaults QuotaOf(const HubConfig& config) {
  QuotaDefaults quota{.user = AmountsOf(config.quota),
                      .organization = AmountsOf(config.organization_quota)};
  quota.user.set_open_uploads(config.uploads.open_max);
  return quota;
}

v1::Hub DescribeHub(const HubKeys& keys, const HubConfig& config) {
  v1::Hub hub;
  hub.set_hub_id(keys.hub_id);
  hub.set_version(CAIRN_VERSION);
  hub.set_root_key(keys.root_key);
  hub.set_root_fingerprint(keys.root_fingerprint);
  for (int kind = v1::Encoding::ENCODING_UNSPECIFIED + 1;
       kind < v1::Encoding::Kind_ARRAYSIZE; ++kind) {
    hub.add_encodings(
        v1::Encoding::Kind_Name(static_cast<v1::Encoding::Kind>(kind)));
  }
  v1::Limits& limits = *hub.mutable_limits();
  limits.set_header_bytes_max(kSafetensorsHeaderBytesMax);
  limits.set_tensors_max(kSafetensorsTensorsMax);
  limits.set_suite_bytes_max(kSuiteBytesMax);
  limits.set_open_uploads_max(config.uploads.open_max);
  limits.set_batch_upload_bytes_max(kBatchUploadBytesMax);
  limits.set_update_ratio_max(kUpdateRatioMax);
  limits.set_upload_bytes_max(config.uploads.bytes_max);
  limits.set_caller_streams_max(config.uploads.caller_streams_max);
  limits.set_streams_max(config.uploads.streams_max);
  limits.set_page_size_max(kPageSizeMax);
  *limits.mutable_quota() = QuotaOf(config).user;
  hub.set_chunk_bytes_max(kChunkBytes);
  hub.add_digests("sha256");
  hub.add_compressors("identity");
  hub.add_formats("safetensors");
  return hub;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> LoadCredentials(
    const std::string& data_dir, const HubConfig::Tls& tls, Clock& clock) {
  CAIRN_ASSIGN_OR_RETURN(std::string certificate,
                         ReadFile(Under(data_dir, tls.certificate)));
  CAIRN_ASSIGN_OR_RETURN(std::string key, ReadFile(Under(data_dir, tls.key)));
  auto end = CertificateExpiry(certificate);
  if (!end.ok()) {
    return Annotate(end.status(), Under(data_dir, tls.certificate));
  }
  if (*end < clock.Now() + kExpiryWarning) {
    CAIRN_LOG(kWarning, "the server's certificate ends at ",
              absl::FormatTime(*end, absl::UTCTimeZone()),
              "; make a new one with: cairnd certify");
  }
  grpc::SslServerCredentialsOptions options;
  options.pem_key_cert_pairs.push_back({std::move(key), certificate});
  return grpc::SslServerCredentials(options);
}

// As clients write it.
std::string PlainAddress(const std::string& listen, int port) {
  auto plain = ParseHostPort(listen, "plain_listen");
  if (!plain.ok()) return listen;  // a socket file, or none
  plain->port = port;
  return absl::StrCat("http://", FormatHostPort(*plain));
}

void WarnOfDelegation(const HubKeys& keys, Clock& clock) {
  if (keys.delegation_end > clock.Now() + kExpiryWarning) return;
  CAIRN_LOG(kWarning, "the release key's delegation ends at ",
            absl::FormatTime(keys.delegation_end, absl::UTCTimeZone()),
            "; renew it with: cairnd delegate --root-key FILE");
}

void SetLimits(grpc::ServerBuilder& builder) {
  BoundTransport(builder);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             kCallsPerConnection);
  // Two hubs on one port would share its connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

LogLevel ParseLogLevel(const std::string& text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "warning") return LogLevel::kWarning;
  if (text == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

}  // namespace

// Everything in the order in which it is built; destroyed the other way round.
class HubServer::Parts {
 public:
  Parts(Options options, HubKeys keys,
        std::unique_ptr<RocksMetadataStore> metadata,
        std::unique_ptr<FsBlobStore> blobs);
  absl::Status Serve();
  void Stop();

  const std::string& grpc_address() const { return grpc_address_; }
  const std::string& http_address() const { return http_->address(); }
  const std::string& plain_address() const { return plain_address_; }
  const std::string& ca_path() const { return ca_path_; }

 private:
  void RegisterServices(grpc::ServerBuilder& builder);
  absl::Status ServeGrpc();
  absl::Status ServeHttp();
  HttpResponse AnswerHttp(absl::string_view path) const;
  MetricSources Metrics() const;

  const Options options_;
  const HubConfig& config_;
  const HubKeys keys_;
  const std::string ca_path_;

  const std::unique_ptr<RocksMetadataStore> metadata_;
  const std::unique_ptr<FsBlobStore> blobs_;
  HubStore store_;
  SweepGate sweeps_;
  HubBackup backup_;
  ThreadPool pool_;
  // Apart from the rest, so that heartbeats do not wait for busy disks.
  ThreadPool transfer_pool_;
  // Syncs and hashes of uploads, which streams do not wait for.
  ThreadPool upload_work_pool_;
  StreamGate transfers_;
  StreamGate watchers_;

  TokenAuthority tokens_;
  IdentityService identities_;
  ReleaseSigner signer_;
  ReleasePublisher publisher_;
  JobQueue jobs_;
  UploadSessions uploads_;
  DownloadResolver downloads_;
  ContributionIntake intake_;
  ReviewService reviews_;
  BatchService batches_;
  HubLineService line_;
  ModelCatalog models_;
  LocalExchange exchange_;
  ReleaseCatalog releases_;
  TagTable tags_;
  SuiteCatalog suites_;
  EventLog events_;

  ScreenStage screen_stage_;
  GateStage gate_stage_;
  SuiteCheckStage suite_check_stage_;
  BatchStage batch_stage_;
  DeltaStage delta_stage_;
  AutoBatchStage auto_batch_stage_;
  ReplayStage replay_stage_;
  ReviewExpiryStage review_expiry_stage_;
  RetentionStage retention_stage_;
  BlobSweepStage blob_sweep_stage_;
  BlobScrubStage blob_scrub_stage_;
  BlobPackStage blob_pack_stage_;
  IdleStreamStage idle_stream_stage_;
  StageRunner stages_;

  HubHandler hub_handler_;
  IdentityHandler identity_handler_;
  AdminHandler admin_handler_;
  StorageHandler storage_handler_;
  QuotaHandler quota_handler_;
  ModelHandler model_handler_;
  ExchangeHandler exchange_handler_;
  SuiteHandler suite_handler_;
  ReleaseHandler release_handler_;
  TagHandler tag_handler_;
  EventHandler event_handler_;
  UploadHandler upload_handler_;
  DownloadHandler download_handler_;
  ContributionHandler contribution_handler_;
  ReviewHandler review_handler_;
  QueueHandler queue_handler_;
  BatchHandler batch_handler_;
  WorkerHandler worker_handler_;

  std::atomic<bool> is_serving_ = false;
  std::string grpc_address_;
  std::string plain_address_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<HttpServer> http_;
  std::jthread http_thread_;
};

HubServer::Parts::Parts(Options options, HubKeys keys,
                        std::unique_ptr<RocksMetadataStore> metadata,
                        std::unique_ptr<FsBlobStore> blobs)
    : options_(std::move(options)),
      config_(options_.config),
      keys_(std::move(keys)),
      ca_path_(
          std::filesystem::absolute(Under(options_.data_dir, config_.tls.ca))),
      metadata_(std::move(metadata)),
      blobs_(std::move(blobs)),
      store_(*metadata_, *options_.clock),
      backup_(options_.data_dir, *metadata_, *blobs_, sweeps_, *options_.clock),
      pool_({.threads = config_.threads,
             .queue_max = static_cast<size_t>(config_.requests_queued)}),
      transfer_pool_(
          {.threads = config_.threads,
           .queue_max = static_cast<size_t>(config_.requests_queued)}),
      upload_work_pool_({.threads = kUploadWorkThreads}),
      transfers_({.streams_max = config_.uploads.streams_max,
                  .caller_streams_max = config_.uploads.caller_streams_max}),
      watchers_(
          {.streams_max = kWatchersMax, .caller_streams_max = kWatchersMax}),
      tokens_(store_),
      identities_(store_, keys_.hub_id),
      signer_(keys_.hub_id, keys_.release_key, keys_.delegation,
              keys_.delegation_end),
      publisher_(store_, *blobs_, signer_),
      jobs_(store_, *blobs_, *options_.clock,
            {.lease_ttl = config_.workers.lease_ttl,
             .heartbeat_interval = config_.workers.heartbeat}),
      uploads_(store_, *blobs_,
               {.quota = QuotaOf(config_),
                .bytes_max = config_.uploads.bytes_max,
                .idle_ttl = config_.uploads.idle_ttl,
                .file = {.background = &upload_work_pool_}}),
      downloads_(store_, *blobs_,
                 [this](const Caller& caller, const v1::LeasedBlob& blob) {
                   return jobs_.CheckLeasedBlob(caller, blob);
                 }),
      intake_(store_, *blobs_, jobs_, keys_.hub_id, QuotaOf(config_)),
      reviews_(store_, jobs_),
      batches_(store_, jobs_),
      line_(store_, jobs_),
      models_(store_, *blobs_, signer_),
      exchange_(store_, *blobs_, models_, config_.storage.exchange),
      releases_(store_, line_, jobs_),
      tags_(store_),
      suites_(store_, *blobs_),
      events_(store_),
      screen_stage_(store_, *blobs_),
      gate_stage_(store_, *blobs_),
      suite_check_stage_(store_, *blobs_),
      batch_stage_(store_, *blobs_, publisher_),
      delta_stage_(store_, *blobs_),
      auto_batch_stage_(store_, batches_),
      replay_stage_(store_, *blobs_),
      review_expiry_stage_(store_, config_.retention.needs_review),
      retention_stage_(store_, {.rejected = config_.retention.rejected}),
      blob_sweep_stage_(store_, *blobs_, config_.retention.unreferenced,
                        sweeps_),
      blob_scrub_stage_(store_, *blobs_, config_.storage.scrub_bytes_per_second,
                        config_.storage.scrub_every),
      blob_pack_stage_(
          *blobs_, *blobs_, *options_.clock,
          {.bytes_per_second = config_.storage.pack_bytes_per_second,
           .min_age = config_.storage.pack_after}),
      idle_stream_stage_(transfers_),
      stages_(store_),
      hub_handler_(DescribeHub(keys_, config_)),
      identity_handler_(identities_, {tokens_, pool_}),
      admin_handler_(identities_, store_, *blobs_, {tokens_, pool_}),
      storage_handler_(
          store_, *blobs_,
          {.free_bytes = [this] { return FreeBytes(options_.data_dir); },
           .reserve_bytes = config_.storage.reserve_bytes},
          std::bind_front(&HubBackup::Make, &backup_), {tokens_, pool_}),
      quota_handler_(store_, QuotaOf(config_), {tokens_, pool_}),
      model_handler_(models_, {tokens_, pool_}),
      exchange_handler_(exchange_, {tokens_, pool_}),
      suite_handler_(suites_, {tokens_, pool_}),
      release_handler_(releases_, {tokens_, pool_}),
      tag_handler_(tags_, {tokens_, pool_}),
      event_handler_(events_, {tokens_, pool_}, watchers_),
      upload_handler_(uploads_, {tokens_, transfer_pool_}, transfers_),
      download_handler_(downloads_, {tokens_, transfer_pool_}, transfers_),
      contribution_handler_(store_, intake_, {tokens_, pool_}),
      review_handler_(reviews_, {tokens_, pool_}),
      queue_handler_(store_, batches_, {tokens_, pool_}),
      batch_handler_(store_, batches_, {tokens_, pool_}),
      worker_handler_(jobs_, {tokens_, pool_}) {
  for (Stage* stage : std::initializer_list<Stage*>{
           &screen_stage_, &gate_stage_, &suite_check_stage_, &batch_stage_,
           &auto_batch_stage_, &delta_stage_, &replay_stage_,
           &review_expiry_stage_, &retention_stage_, &blob_sweep_stage_,
           &blob_scrub_stage_, &blob_pack_stage_, &idle_stream_stage_, &jobs_,
           &uploads_}) {
    stages_.Add(*stage);
  }
}

void HubServer::Parts::RegisterServices(grpc::ServerBuilder& builder) {
  for (grpc::Service* service : std::initializer_list<grpc::Service*>{
           &hub_handler_, &identity_handler_, &admin_handler_,
           &storage_handler_, &quota_handler_, &model_handler_,
           &exchange_handler_, &suite_handler_, &release_handler_,
           &tag_handler_, &event_handler_, &upload_handler_, &download_handler_,
           &contribution_handler_, &review_handler_, &queue_handler_,
           &batch_handler_, &worker_handler_}) {
    builder.RegisterService(service);
  }
}

absl::Status HubServer::Parts::Serve() {
  WarnOfDelegation(keys_, *options_.clock);
  CAIRN_RETURN_IF_ERROR(ServeGrpc());
  CAIRN_RETURN_IF_ERROR(ServeHttp());
  stages_.Start();
  is_serving_ = true;
  return absl::OkStatus();
}

absl::Status HubServer::Parts::ServeGrpc() {
  CAIRN_ASSIGN_OR_RETURN(
      auto credentials,
      LoadCredentials(options_.data_dir, config_.tls, *options_.clock));
  CAIRN_ASSIGN_OR_RETURN(HostPort listen,
                         ParseHostPort(config_.listen, "listen"));
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  int port = 0;
  int plain_port = 0;
  builder.AddListeningPort(config_.listen, credentials, &port);
  if (!config_.plain_listen.empty()) {
    builder.AddListeningPort(config_.plain_listen,
                             grpc::InsecureServerCredentials(), &plain_port);
  }
  SetLimits(builder);
  RegisterServices(builder);
  grpc_ = builder.BuildAndStart();
  if (grpc_ == nullptr && port != 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", config_.plain_listen,
        "; is the port in use, or may the socket not be made there?"));
  }
  if (grpc_ == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", config_.listen, "; is the port in use, and does ",
        config_.tls.key, " belong to ", config_.tls.certificate, "?"));
  }
  listen.port = port;
  grpc_address_ = FormatHostPort(listen);
  plain_address_ = PlainAddress(config_.plain_listen, plain_port);
  return absl::OkStatus();
}

absl::Status HubServer::Parts::ServeHttp() {
  CAIRN_ASSIGN_OR_RETURN(
      http_, HttpServer::Create(
                 {.listen = config_.http_listen,
                  .is_behind_proxy =
                      config_.http_exposure == HttpExposure::kBehindProxy},
                 [this](absl::string_view path) { return AnswerHttp(path); }));
  http_thread_ = std::jthread([this] { http_->Run(); });
  return absl::OkStatus();
}

MetricSources HubServer::Parts::Metrics() const {
  return {
      .store = store_,
      .stages = stages_,
      .uploaded_bytes = [this] { return upload_handler_.received_bytes(); },
      .downloaded_bytes = [this] { return download_handler_.sent_bytes(); },
      .open_streams = [this] { return transfers_.open_streams(); },
      .version = CAIRN_VERSION,
      .scrubbed_bytes = [this] { return blob_scrub_stage_.scrubbed_bytes(); },
      .damaged_blobs = [this] { return blob_scrub_stage_.damaged_blobs(); },
      .packed_blobs = [this] { return blob_pack_stage_.packed_blobs(); },
      .free_bytes =
          [this] { return FreeBytes(options_.data_dir).value_or(-1); }};
}

HttpResponse HubServer::Parts::AnswerHttp(absl::string_view path) const {
  if (path == "/healthz") {
    return is_serving_ ? HttpResponse{.body = "ok\n"}
                       : HttpResponse{.status = 503, .body = "not serving\n"};
  }
  if (path == "/metrics") {
    auto text = RenderMetrics(Metrics());
    if (!text.ok()) {
      return {.status = 500,
              .body = absl::StrCat(text.status().message(), "\n")};
    }
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
            .body = *std::move(text)};
  }
  return {.status = 404,
          .body = "here are /healthz and /metrics; the rest is gRPC\n"};
}

void HubServer::Parts::Stop() {
  if (is_serving_.exchange(false)) CAIRN_LOG(kInfo, "draining");
  if (grpc_ != nullptr) {
    if (auto* health = grpc_->GetHealthCheckService(); health != nullptr) {
      health->SetServingStatus(false);
    }
  }
  stages_.Stop();
  if (grpc_ != nullptr) {
    grpc_->Shutdown(absl::ToChronoTime(absl::Now() + config_.drain_timeout));
    grpc_->Wait();
  }
  transfer_pool_.Stop();
  upload_work_pool_.Stop();
  pool_.Stop();
  grpc_.reset();
  if (http_ != nullptr) http_->Stop();
  if (http_thread_.joinable()) http_thread_.join();
}

absl::StatusOr<std::unique_ptr<HubServer>> HubServer::Start(Options options) {
  CAIRN_RETURN_IF_ERROR(CheckHubConfig(options.config));
  SetLogLevel(ParseLogLevel(options.config.log_level));
  CAIRN_ASSIGN_OR_RETURN(HubKeys keys, LoadHubKeys(options.data_dir));
  CAIRN_ASSIGN_OR_RETURN(auto metadata,
                         RocksMetadataStore::Open(
                             MetadataDirectory(options.data_dir), HubSchema()));
  CAIRN_ASSIGN_OR_RETURN(int64_t disk_bytes, DiskBytes(options.data_dir));
  int64_t& reserve_bytes = options.config.storage.reserve_bytes;
  reserve_bytes = std::min(reserve_bytes, disk_bytes / kReserveShareMax);
  CAIRN_ASSIGN_OR_RETURN(auto blobs,
                         FsBlobStore::Open(BlobDirectory(options.data_dir),
                                           {.reserve_bytes = reserve_bytes}));
  auto parts = std::make_unique<Parts>(std::move(options), std::move(keys),
                                       std::move(metadata), std::move(blobs));
  std::unique_ptr<HubServer> server(new HubServer(std::move(parts)));
  CAIRN_RETURN_IF_ERROR(server->parts_->Serve());
  return server;
}

HubServer::HubServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

HubServer::~HubServer() { Stop(); }

const std::string& HubServer::grpc_address() const {
  return parts_->grpc_address();
}
const std::string& HubServer::http_address() const {
  return parts_->http_address();
}
const std::string& HubServer::plain_address() const {
  return parts_->plain_address();
}
const std::string& HubServer::ca_path() const { return parts_->ca_path(); }

void HubServer::Stop() { parts_->Stop(); }

}  // namespace cairn
