#ifndef CAIRN_SERVER_RELEASE_TAG_HANDLER_H_
#define CAIRN_SERVER_RELEASE_TAG_HANDLER_H_

#include "cairn/v1/tag.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/release/tag_table.h"

namespace cairn {

// The TagService RPCs. Everything given must outlive the server that it is
// registered with.
class TagHandler : public v1::TagService::CallbackService {
 public:
  TagHandler(TagTable& tags, CallEnvironment calls)
      : tags_(tags), calls_(calls) {}

  grpc::ServerUnaryReactor* GetTag(grpc::CallbackServerContext* context,
                                   const v1::GetTagRequest* request,
                                   v1::Tag* response) override;
  grpc::ServerUnaryReactor* ListTags(grpc::CallbackServerContext* context,
                                     const v1::ListTagsRequest* request,
                                     v1::ListTagsResponse* response) override;
  grpc::ServerUnaryReactor* SetTag(grpc::CallbackServerContext* context,
                                   const v1::SetTagRequest* request,
                                   v1::Tag* response) override;
  grpc::ServerUnaryReactor* DeleteTag(grpc::CallbackServerContext* context,
                                      const v1::DeleteTagRequest* request,
                                      v1::DeleteTagResponse* response) override;
  grpc::ServerUnaryReactor* Rollback(grpc::CallbackServerContext* context,
                                     const v1::RollbackRequest* request,
                                     v1::Tag* response) override;

 private:
  TagTable& tags_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_TAG_HANDLER_H_
