#include "server/release/release_handler.h"

#include <functional>

namespace cairn {

grpc::ServerUnaryReactor* ReleaseHandler::GetRelease(
    grpc::CallbackServerContext* context, const v1::GetReleaseRequest* request,
    v1::Release* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ReleaseCatalog::Get, &releases_));
}

grpc::ServerUnaryReactor* ReleaseHandler::ListReleases(
    grpc::CallbackServerContext* context,
    const v1::ListReleasesRequest* request,
    v1::ListReleasesResponse* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ReleaseCatalog::List, &releases_));
}

grpc::ServerUnaryReactor* ReleaseHandler::MatchRelease(
    grpc::CallbackServerContext* context,
    const v1::MatchReleaseRequest* request, v1::Release* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ReleaseCatalog::Match, &releases_));
}

grpc::ServerUnaryReactor* ReleaseHandler::StartReplay(
    grpc::CallbackServerContext* context, const v1::StartReplayRequest* request,
    v1::Replay* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ReleaseCatalog::StartReplay, &releases_));
}

grpc::ServerUnaryReactor* ReleaseHandler::GetReplay(
    grpc::CallbackServerContext* context, const v1::GetReplayRequest* request,
    v1::Replay* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ReleaseCatalog::GetReplay, &releases_));
}

grpc::ServerUnaryReactor* ReleaseHandler::YankRelease(
    grpc::CallbackServerContext* context, const v1::YankReleaseRequest* request,
    v1::Release* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ReleaseCatalog::Yank, &releases_));
}

grpc::ServerUnaryReactor* ReleaseHandler::RevertContribution(
    grpc::CallbackServerContext* context,
    const v1::RevertContributionRequest* request, v1::Batch* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ReleaseCatalog::Revert, &releases_));
}

grpc::ServerUnaryReactor* ReleaseHandler::RequestDelta(
    grpc::CallbackServerContext* context,
    const v1::RequestDeltaRequest* request, v1::Delta* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ReleaseCatalog::RequestDelta, &releases_));
}

}  // namespace cairn
