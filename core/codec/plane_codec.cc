#include "core/codec/plane_codec.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/codec/plane_split.h"

namespace cairn {
namespace {

// How a plane is kept.
enum Method : uint8_t { kRaw = 0, kZstd = 1 };

// Before the planes: the width, then a method and a length for each plane.
constexpr size_t kHeaderBytes = 1;
constexpr size_t kPlaneHeaderBytes = 5;

// A plane of which this much at the front does not shrink is not tried whole:
// the mantissas of trained weights are as good as random.
constexpr size_t kTrialBytes = size_t{16} << 10;

void AppendLength(size_t length, char* out) {
  for (int i = 0; i < 4; ++i) {
    out[i] = static_cast<char>(length >> (8 * i));
  }
}

size_t ReadLength(const char* in) {
  size_t length = 0;
  for (int i = 0; i < 4; ++i) {
    length |= static_cast<size_t>(static_cast<uint8_t>(in[i])) << (8 * i);
  }
  return length;
}

absl::Status Broken(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("coded block: ", what));
}

}  // namespace

bool IsPlaneWidth(int width) {
  return width == 1 || width == 2 || width == 4 || width == 8;
}

size_t PlaneCodedBytesMax(size_t block_bytes) {
  return kHeaderBytes + 8 * kPlaneHeaderBytes + block_bytes;
}

struct PlaneEncoder::Context {
  Context() : zstd(ZSTD_createCCtx()) {
    CAIRN_CHECK(zstd != nullptr);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, 1);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0);
  }
  ~Context() { ZSTD_freeCCtx(zstd); }

  // Bytes of numbers get the smallest table of matches: those in a plane of
  // exponents are chance, and cost more bits and time than they save. 0 leaves
  // the level's own.
  void Expect(int width) {
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_minMatch, width > 1 ? 7 : 0);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_hashLog, width > 1 ? 6 : 0);
  }

  // The coded length, or 0 when that is not below `plane_bytes`. `out` has
  // room for `plane_bytes`.
  size_t Compress(const char* plane, size_t plane_bytes, char* out) {
    const auto attempt = [&](size_t bytes) {
      const size_t coded = ZSTD_compress2(zstd, out, bytes, plane, bytes);
      return ZSTD_isError(coded) != 0 ? bytes : coded;
    };
    if (plane_bytes > 2 * kTrialBytes &&
        attempt(kTrialBytes) >= kTrialBytes - kTrialBytes / 64) {
      return 0;
    }
    const size_t coded = attempt(plane_bytes);
    return coded < plane_bytes ? coded : 0;
  }

  ZSTD_CCtx* zstd;
};

PlaneEncoder::PlaneEncoder() : context_(std::make_unique<Context>()) {}
PlaneEncoder::~PlaneEncoder() = default;
PlaneEncoder::PlaneEncoder(PlaneEncoder&&) noexcept = default;
PlaneEncoder& PlaneEncoder::operator=(PlaneEncoder&&) noexcept = default;

void PlaneEncoder::Encode(absl::Span<const char> block, int width,
                          std::string& out) {
  CAIRN_CHECK(IsPlaneWidth(width) && block.size() <= kPlaneBlockBytesMax);
  const auto planes = static_cast<size_t>(width);
  const size_t count = block.size() / planes;
  const char* split = block.data();
  if (width > 1) {
    if (planes_.size() < block.size()) planes_.resize(block.size());
    SplitPlanes(block.data(), count, width, planes_.data());
    split = planes_.data();
  }
  context_->Expect(width);
  const size_t begin = out.size();
  out.resize(begin + PlaneCodedBytesMax(block.size()));
  char* header = &out[begin];
  *header++ = static_cast<char>(width);
  char* body = header + planes * kPlaneHeaderBytes;
  for (size_t p = 0; p < planes; ++p) {
    const char* plane = split + p * count;
    size_t length = context_->Compress(plane, count, body);
    *header++ = length > 0 ? kZstd : kRaw;
    if (length == 0 && count > 0) {
      length = count;
      std::memcpy(body, plane, count);
    }
    AppendLength(length, header);
    header += 4;
    body += length;
  }
  const size_t tail = block.size() - count * planes;
  if (tail > 0) std::memcpy(body, block.data() + count * planes, tail);
  out.resize(static_cast<size_t>(body + tail - out.data()));
}

struct PlaneDecoder::Context {
  Context() : zstd(ZSTD_createDCtx()) { CAIRN_CHECK(zstd != nullptr); }
  ~Context() { ZSTD_freeDCtx(zstd); }
  ZSTD_DCtx* zstd;
};

PlaneDecoder::PlaneDecoder() : context_(std::make_unique<Context>()) {}
PlaneDecoder::~PlaneDecoder() = default;
PlaneDecoder::PlaneDecoder(PlaneDecoder&&) noexcept = default;
PlaneDecoder& PlaneDecoder::operator=(PlaneDecoder&&) noexcept = default;

absl::Status PlaneDecoder::Decode(absl::string_view coded,
                                  absl::Span<char> block) {
  CAIRN_CHECK(block.size() <= kPlaneBlockBytesMax);
  if (coded.empty()) return Broken("is empty");
  const int width = static_cast<uint8_t>(coded[0]);
  if (!IsPlaneWidth(width)) {
    return Broken(absl::StrCat("elements of ", width,
                               " bytes; 1, 2, 4 or 8 are possible"));
  }
  const auto planes = static_cast<size_t>(width);
  const size_t count = block.size() / planes;
  const size_t headers = kHeaderBytes + planes * kPlaneHeaderBytes;
  if (coded.size() < headers) return Broken("ends in its header");
  // Planes of one byte are decoded where they belong.
  if (width > 1 && planes_.size() < block.size()) planes_.resize(block.size());
  char* scratch = width > 1 ? planes_.data() : block.data();
  const char* parts[8] = {};
  size_t at = headers;
  for (size_t p = 0; p < planes; ++p) {
    const char* header = coded.data() + kHeaderBytes + p * kPlaneHeaderBytes;
    const auto method = static_cast<uint8_t>(header[0]);
    const size_t length = ReadLength(header + 1);
    if (length > coded.size() - at) {
      return Broken(absl::StrCat("ends in plane ", p));
    }
    const char* body = coded.data() + at;
    at += length;
    if (method == kRaw && length == count) {
      parts[p] = body;
      continue;
    }
    if (method != kZstd) {
      return Broken(absl::StrCat("plane ", p, " has method ", int{method},
                                 " and ", length, " bytes for ", count));
    }
    parts[p] = scratch + p * count;
    const size_t plain = ZSTD_decompressDCtx(
        context_->zstd, scratch + p * count, count, body, length);
    if (ZSTD_isError(plain) != 0) {
      return Broken(
          absl::StrCat("plane ", p, ": zstd says: ", ZSTD_getErrorName(plain)));
    }
    if (plain != count) {
      return Broken(absl::StrCat("plane ", p, " has ", plain,
                                 " bytes; the block has room for ", count));
    }
  }
  const size_t tail = block.size() - count * planes;
  if (coded.size() - at != tail) {
    return Broken(absl::StrCat("has ", coded.size() - at,
                               " bytes after its planes; ", tail,
                               " are right"));
  }
  if (parts[0] != block.data()) {
    JoinPlanes(parts, count, width, block.data());
  }
  if (tail > 0) {
    std::memcpy(block.data() + count * planes, coded.data() + at, tail);
  }
  return absl::OkStatus();
}

PlaneProbe ProbePlanes(absl::Span<const char> sample, PlaneEncoder& encoder) {
  PlaneProbe probe;
  if (sample.empty()) return probe;
  std::string coded;
  for (const int width : {1, 2, 4, 8}) {
    coded.clear();
    encoder.Encode(sample.first(std::min(sample.size(), kPlaneBlockBytesMax)),
                   width, coded);
    const double ratio =
        static_cast<double>(coded.size()) / static_cast<double>(sample.size());
    // A wider element must be worth it: it makes more and shorter planes.
    if (width == 1 || ratio < 0.99 * probe.ratio) probe = {width, ratio};
  }
  return probe;
}

}  // namespace cairn
