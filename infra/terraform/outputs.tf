output "bucket" {
  description = "For storage.bucket."
  value       = aws_s3_bucket.restill.bucket
}

output "reader_role_arn" {
  description = "For the search service."
  value       = aws_iam_role.restill["reader"].arn
}

output "trainer_role_arn" {
  description = "For workers."
  value       = aws_iam_role.restill["trainer"].arn
}

output "promoter_role_arn" {
  description = "For whoever promotes and rolls back."
  value       = aws_iam_role.restill["promoter"].arn
}
