#include "esx-vmci/datastore/sync_together.h"

#include <pthread.h>

#include <system_error>
#include <thread>
#include <vector>

namespace vdvs::esx {

using base::Result;

Result<void> sync_together(std::initializer_list<const base::UniqueFd*> files, std::string_view what) {
  std::vector<Result<void>> outcomes(files.size());
  {
    std::vector<std::jthread> others;
    for (std::size_t i = 1; i < files.size(); ++i) {
      auto sync = [&outcomes, &what, i, file = files.begin()[i]] {
        outcomes[i] = base::sync_all(*file, what);
      };
      try {
        others.emplace_back(sync);
        ::pthread_setname_np(others.back().native_handle(), "flush");
      } catch (const std::system_error&) {
        sync();  // no thread is to be had: one after the other, then
      }
    }
    if (files.size() > 0) outcomes[0] = base::sync_all(**files.begin(), what);
  }
  for (Result<void>& outcome : outcomes) RETURN_IF_ERROR(outcome);
  return {};
}

}  // namespace vdvs::esx
