#ifndef CAIRN_SERVER_REVIEW_REVIEW_HANDLER_H_
#define CAIRN_SERVER_REVIEW_REVIEW_HANDLER_H_

#include "cairn/v1/review.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/review/review_service.h"

namespace cairn {

// The ReviewService RPCs: permission first, then the service. Everything given
// must outlive the server that it is registered with.
class ReviewHandler : public v1::ReviewService::CallbackService {
 public:
  ReviewHandler(ReviewService& reviews, CallEnvironment calls)
      : reviews_(reviews), calls_(calls) {}

  grpc::ServerUnaryReactor* GetReview(grpc::CallbackServerContext* context,
                                      const v1::GetReviewRequest* request,
                                      v1::Contribution* response) override;
  grpc::ServerUnaryReactor* Approve(grpc::CallbackServerContext* context,
                                    const v1::ReviewRequest* request,
                                    v1::Contribution* response) override;
  grpc::ServerUnaryReactor* Reject(grpc::CallbackServerContext* context,
                                   const v1::ReviewRequest* request,
                                   v1::Contribution* response) override;
  grpc::ServerUnaryReactor* AddComment(grpc::CallbackServerContext* context,
                                       const v1::AddCommentRequest* request,
                                       v1::Contribution* response) override;

 private:
  ReviewService& reviews_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_REVIEW_REVIEW_HANDLER_H_
