use super::super::testing::Stage;
