resource "aws_s3_bucket" "restill" {
  bucket = var.bucket
  tags   = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_ownership_controls" "restill" {
  bucket = aws_s3_bucket.restill.id

  rule {
    object_ownership = "BucketOwnerEnforced" # no ACLs: the policies alone say who may do what
  }
}

resource "aws_s3_bucket_public_access_block" "restill" {
  bucket                  = aws_s3_bucket.restill.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "restill" {
  bucket = aws_s3_bucket.restill.id

  versioning_configuration {
    status = "Enabled" # the backup against a wrong deletion
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "restill" {
  bucket = aws_s3_bucket.restill.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# No rule lets present objects expire or move: only `restill registry gc` knows what a rollback may need
# (docs/registry.md).
resource "aws_s3_bucket_lifecycle_configuration" "restill" {
  bucket     = aws_s3_bucket.restill.id
  depends_on = [aws_s3_bucket_versioning.restill]

  rule {
    id     = "what-a-killed-process-leaves"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  rule {
    id     = "what-was-overwritten-or-deleted"
    status = "Enabled"
    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    expiration {
      expired_object_delete_marker = true
    }
  }
}

data "aws_iam_policy_document" "bucket" {
  # What is written once is not overwritten, and no entry of a promotion history is deleted, by any key.
  source_policy_documents = [local.policy["bucket"]]

  statement {
    sid     = "OnlyEncryptedConnections"
    effect  = "Deny"
    actions = ["s3:*"]
    resources = [
      aws_s3_bucket.restill.arn,
      "${aws_s3_bucket.restill.arn}/*",
    ]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "restill" {
  bucket     = aws_s3_bucket.restill.id
  policy     = data.aws_iam_policy_document.bucket.json
  depends_on = [aws_s3_bucket_public_access_block.restill]
}
