// Storage policies by name: text files in <datastore>/dockvols/policies/<name> (reference, section 3.14).
// Names are checked and content is, and neither ever comes near a shell.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace vdvs::esx {

inline constexpr std::size_t kMaxPolicyBytes = 4096;
/// With ".failed_volume_updates" behind it, which the predecessor writes, it is still a file name.
inline constexpr std::size_t kMaxPolicyNameBytes = 200;

/// A vSAN expression: balanced parentheses around ("capability" value) pairs with a known capability and a
/// fitting value:
/// (("hostFailuresToTolerate" i1)("proportionalCapacity" i0)). Errors: kInvalid, where and why.
base::Result<void> validate_policy_content(std::string_view content);
/// Errors: kInvalid: empty, too long, '/', a leading '.', control characters, endings .tmp, .old,
/// .failed_volume_updates.
base::Result<void> validate_policy_name(std::string_view name);

struct Policy {
  std::string name;
  std::string content;
};

/// Thread: any. Texts are the predecessor's.
class PolicyStore {
 public:
  /// `folder`: <datastore>/dockvols/policies; made at the first create.
  explicit PolicyStore(std::string folder) : folder_(std::move(folder)) {}

  base::Result<void> create(std::string_view name, std::string_view content);
  /// Replaces it in one step. The caller applies it to the volumes that use it.
  base::Result<void> update(std::string_view name, std::string_view content);
  base::Result<void> remove(std::string_view name);
  base::Result<Policy> find(std::string_view name) const;
  /// By name. Only regular files with a valid name and of a policy's size: what updates have left over is
  /// none.
  base::Result<std::vector<Policy>> list() const;

 private:
  const std::string folder_;
};

}  // namespace vdvs::esx
