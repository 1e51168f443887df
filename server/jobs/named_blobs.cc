#include "server/jobs/named_blobs.h"

namespace cairn {
namespace {

void AddRelease(const v1::ReleaseInput& release, NamedBlobs& named) {
  named.blobs.push_back(release.tensor_manifest_sha256());
}

void AddModel(const v1::ModelInput& model, NamedBlobs& named) {
  if (model.has_release()) AddRelease(model.release(), named);
  if (!model.has_candidate()) return;
  AddRelease(model.candidate().release(), named);
  named.blobs.push_back(model.candidate().tensor_manifest_sha256());
  named.candidate_manifests.push_back(
      model.candidate().tensor_manifest_sha256());
}

template <typename Files>
void AddFiles(const Files& files, NamedBlobs& named) {
  for (const v1::File& file : files) named.blobs.push_back(file.sha256());
}

void AddUpdate(const v1::UpdateInput& update, NamedBlobs& named) {
  AddFiles(update.files(), named);
  AddRelease(update.base(), named);
}

void AddSuite(const v1::SuiteInput& suite, NamedBlobs& named) {
  AddFiles(suite.files(), named);
}

void AddDelta(const v1::DeltaSpec& delta, NamedBlobs& named) {
  AddRelease(delta.from(), named);
  AddRelease(delta.to(), named);
  for (const v1::DeltaMerge& merge : delta.merges()) {
    for (const auto& member : merge.members()) {
      AddFiles(member.update().files(), named);
    }
  }
}

}  // namespace

NamedBlobs BlobsNamedBy(const v1::JobSpec& spec) {
  NamedBlobs named;
  if (spec.has_evaluate()) {
    const v1::EvaluateSpec& work = spec.evaluate();
    AddModel(work.base(), named);
    AddModel(work.candidate(), named);
    AddUpdate(work.update(), named);
    for (const auto& suite : work.suites()) AddSuite(suite, named);
  } else if (spec.has_search()) {
    const v1::SearchSpec& work = spec.search();
    AddModel(work.head(), named);
    for (const auto& update : work.updates()) AddUpdate(update, named);
    for (const auto& suite : work.suites()) AddSuite(suite, named);
  } else if (spec.has_merge()) {
    const v1::MergeSpec& work = spec.merge();
    AddModel(work.head(), named);
    for (const auto& update : work.updates()) AddUpdate(update, named);
  } else if (spec.has_delta()) {
    AddDelta(spec.delta(), named);
  }
  return named;
}

void ForEachSuite(v1::JobSpec& spec,
                  const std::function<void(v1::SuiteInput&)>& visit) {
  if (spec.has_evaluate()) {
    for (auto& suite : *spec.mutable_evaluate()->mutable_suites()) {
      visit(suite);
    }
  } else if (spec.has_search()) {
    for (auto& suite : *spec.mutable_search()->mutable_suites()) visit(suite);
  }
}

}  // namespace cairn
