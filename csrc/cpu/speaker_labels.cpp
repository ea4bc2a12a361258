#include "cpu/speaker_labels.h"

#include <bit>
#include <utility>

namespace spcl {

SpeakerLabels::SpeakerLabels() = default;
SpeakerLabels::~SpeakerLabels() = default;

int32_t& SpeakerLabels::of_other(int64_t speaker, int64_t dialogue, int32_t unseen) {
  if (dialogue != dialogue_) {
    dialogue_ = dialogue;
    used_ = 0;
  }
  if (2 * (used_ + 1) > entries_.size()) grow(dialogue);
  Entry& entry = find(speaker, dialogue);
  if (entry.dialogue != dialogue) {
    entry = {speaker, dialogue, unseen};
    ++used_;
  }
  return entry.label;
}

/// The entry of the speaker, or the free one where it belongs. There is always a free one.
SpeakerLabels::Entry& SpeakerLabels::find(int64_t speaker, int64_t dialogue) {
  // The high bits of a product with 2^64 over the golden ratio, after the high half was folded into the low one.
  uint64_t hash = static_cast<uint64_t>(speaker);
  hash = (hash ^ (hash >> 32)) * 0x9E3779B97F4A7C15u;
  const size_t mask = entries_.size() - 1;
  size_t place = static_cast<size_t>(hash >> (64 - std::countr_zero(entries_.size())));
  while (entries_[place].dialogue == dialogue && entries_[place].speaker != speaker) place = (place + 1) & mask;
  return entries_[place];
}

void SpeakerLabels::grow(int64_t dialogue) {
  std::vector<Entry> before(entries_.empty() ? 64 : 2 * entries_.size(), Entry{0, -1, 0});
  std::swap(before, entries_);
  for (const Entry& entry : before) {
    if (entry.dialogue == dialogue) find(entry.speaker, dialogue) = entry;
  }
}

}  // namespace spcl
