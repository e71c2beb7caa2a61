locals {
  roles    = toset(["reader", "trainer", "promoter"])
  policies = coalesce(var.policies, "${path.module}/../iam")

  # The documents of infra/iam are the only place where rights stand; here the bucket's name is put in.
  policy = {
    for name in setunion(local.roles, ["bucket"]) :
    name => replace(file("${local.policies}/${name}.json"), "YOUR-BUCKET", var.bucket)
  }

  # Which role carries which policies.
  attached = merge(
    { for role in local.roles : "${role}/${role}" => { role = role, policy = role } },
    var.trainer_promotes ? { "trainer/promoter" = { role = "trainer", policy = "promoter" } } : {},
  )
}

resource "aws_iam_policy" "restill" {
  for_each = local.roles

  name        = "restill-${each.key}"
  description = "What Restill's role ${each.key} may do in ${var.bucket}."
  policy      = local.policy[each.key]
  tags        = var.tags
}

resource "aws_iam_role" "restill" {
  for_each = local.roles

  name               = "restill-${each.key}"
  description        = "Restill: ${each.key}."
  assume_role_policy = var.trusted[each.key]
  tags               = var.tags
}

resource "aws_iam_role_policy_attachment" "restill" {
  for_each = local.attached

  role       = aws_iam_role.restill[each.value.role].name
  policy_arn = aws_iam_policy.restill[each.value.policy].arn
}

# Reading takes the key's Decrypt, writing its GenerateDataKey, too.
data "aws_iam_policy_document" "key" {
  for_each = var.kms_key_arn == null ? toset([]) : local.roles

  statement {
    actions   = each.key == "reader" ? ["kms:Decrypt"] : ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role_policy" "key" {
  for_each = data.aws_iam_policy_document.key

  name   = "key"
  role   = aws_iam_role.restill[each.key].name
  policy = each.value.json
}
