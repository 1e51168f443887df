#include "merge/worker/job_inputs.h"

#include <algorithm>

namespace cairn {
namespace {

void AddRelease(const v1::ReleaseInput& release, JobInputs& inputs) {
  const bool is_known =
      std::any_of(inputs.releases.begin(), inputs.releases.end(),
                  [&](const v1::ReleaseInput* known) {
                    return known->digest() == release.digest();
                  });
  if (!is_known) inputs.releases.push_back(&release);
}

void AddModel(const v1::ModelInput& model, JobInputs& inputs) {
  if (model.has_release()) {
    AddRelease(model.release(), inputs);
  } else if (model.has_candidate()) {
    AddRelease(model.candidate().release(), inputs);
    inputs.candidates.push_back(&model.candidate());
  }
}

void AddUpdate(const v1::UpdateInput& update, JobInputs& inputs) {
  AddRelease(update.base(), inputs);
  inputs.updates.push_back(&update);
}

}  // namespace

JobInputs InputsOf(const v1::JobSpec& spec) {
  JobInputs inputs;
  if (spec.has_evaluate()) {
    const v1::EvaluateSpec& work = spec.evaluate();
    AddModel(work.base(), inputs);
    if (work.has_candidate()) AddModel(work.candidate(), inputs);
    if (work.has_update()) AddUpdate(work.update(), inputs);
    for (const auto& suite : work.suites()) inputs.suites.push_back(&suite);
  } else if (spec.has_search()) {
    const v1::SearchSpec& work = spec.search();
    AddModel(work.head(), inputs);
    for (const auto& update : work.updates()) AddUpdate(update, inputs);
    for (const auto& suite : work.suites()) inputs.suites.push_back(&suite);
  } else if (spec.has_merge()) {
    const v1::MergeSpec& work = spec.merge();
    AddModel(work.head(), inputs);
    for (const auto& update : work.updates()) AddUpdate(update, inputs);
  } else if (spec.has_delta()) {
    AddRelease(spec.delta().from(), inputs);
    AddRelease(spec.delta().to(), inputs);
    for (const auto& merge : spec.delta().merges()) {
      for (const auto& member : merge.members()) {
        inputs.updates.push_back(&member.update());
      }
    }
  }
  return inputs;
}

}  // namespace cairn
