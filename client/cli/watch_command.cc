#include "absl/strings/str_cat.h"
#include "cairn/v1/event.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/names.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

struct WatchOptions {
  std::string subject;
  int64_t after = -1;
};

void PrintEvent(const Session& session, const v1::Event& event) {
  if (session.flags().json) {
    session.Print(ToJson(event, JsonStyle::kLine));
    return;
  }
  session.Print(absl::StrCat(FormatTime(event.create_time()), "  ",
                             session.Colored(event.kind(), "36"), "  ",
                             event.subject(), "  ", event.message()));
}

// Follows events until interrupted, which is its ordinary end; a lost stream
// goes on after the last event seen.
absl::Status Watch(Session& session, const WatchOptions& options) {
  v1::WatchEventsRequest request;
  if (auto model = ModelName(options.subject); model.ok()) {
    request.set_parent(*std::move(model));
  } else {
    CAIRN_ASSIGN_OR_RETURN(*request.mutable_subject(),
                           ItemName(options.subject, "contributions"));
    request.set_parent(ModelOf(request.subject()));
  }
  request.set_after(options.after);
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  v1::EventService::Stub stub(hub->channel());
  Backoff backoff;
  while (!session.stop().stop_requested()) {
    absl::Status status = hub->RunOnce(
        absl::Hours(24), [&](grpc::ClientContext& context) -> grpc::Status {
          auto reader = stub.WatchEvents(&context, request);
          v1::Event event;
          while (reader->Read(&event)) {
            PrintEvent(session, event);
            request.set_after(event.sequence());
            backoff.Reset();
          }
          return reader->Finish();
        });
    if (session.stop().stop_requested()) break;
    if (!status.ok() && !IsTransient(status) &&
        !absl::IsDeadlineExceeded(status)) {
      return status;
    }
    if (!status.ok()) session.Note(absl::StrCat(status.message(), "; again"));
    if (!hub->Sleep(backoff.Next(status)).ok()) break;
  }
  session.set_exit_code(130);
  return absl::OkStatus();
}

}  // namespace

void AddWatchCommand(CommandLine& root) {
  root.Add<WatchOptions>(
      "watch", "Follow what happens to a model or contribution",
      "cairn watch tiny-llama --after 0 --json",
      [](Parameters& p, WatchOptions& o) {
        p.Argument("WHAT", o.subject, "A model or a contribution");
        p.Option("--after", o.after,
                 "Also events after this sequence number (default: only new)");
      },
      Watch);
}

}  // namespace cairn::cli
