variable "bucket" {
  description = "Bucket for everything Restill stores."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "A bucket has 3 to 63 lower-case letters, digits, dots and hyphens."
  }
}

variable "policies" {
  description = "Folder with the policies of the roles, made for the bucket named YOUR-BUCKET. For a prefix or other models: `restill registry policies --bucket YOUR-BUCKET --prefix … --out FOLDER`."
  type        = string
  default     = null # infra/iam beside this folder
}

variable "kms_key_arn" {
  description = "KMS key for encryption at rest. Null: the keys that S3 keeps itself (SSE-S3)."
  type        = string
  default     = null
}

variable "trusted" {
  description = "Who may take on each role: an assume-role policy document (JSON) for reader, trainer and promoter."
  type        = map(string)
  validation {
    condition     = length(setsubtract(["reader", "trainer", "promoter"], keys(var.trusted))) == 0
    error_message = "An assume-role policy is needed for reader, trainer and promoter."
  }
}

variable "trainer_promotes" {
  description = "Whether the role trainer may promote, too, as a worker that runs all of `retrain` must. Otherwise somebody with the role promoter runs `restill registry promote`."
  type        = bool
  default     = false
}

variable "noncurrent_days" {
  description = "Days that overwritten and deleted objects can be restored."
  type        = number
  default     = 30
  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "S3 counts in whole days, at least one."
  }
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
