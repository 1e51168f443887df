#ifndef CAIRN_SERVER_SUITE_SUITE_HANDLER_H_
#define CAIRN_SERVER_SUITE_SUITE_HANDLER_H_

#include "cairn/v1/suite.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/suite/suite_catalog.h"

namespace cairn {

// The SuiteService RPCs. Everything given must outlive the server that it is
// registered with.
class SuiteHandler : public v1::SuiteService::CallbackService {
 public:
  SuiteHandler(SuiteCatalog& suites, CallEnvironment calls)
      : suites_(suites), calls_(calls) {}

  grpc::ServerUnaryReactor* AddSuite(grpc::CallbackServerContext* context,
                                     const v1::AddSuiteRequest* request,
                                     v1::Suite* response) override;
  grpc::ServerUnaryReactor* GetSuite(grpc::CallbackServerContext* context,
                                     const v1::GetSuiteRequest* request,
                                     v1::Suite* response) override;
  grpc::ServerUnaryReactor* ListSuites(
      grpc::CallbackServerContext* context,
      const v1::ListSuitesRequest* request,
      v1::ListSuitesResponse* response) override;

 private:
  SuiteCatalog& suites_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_SUITE_SUITE_HANDLER_H_
